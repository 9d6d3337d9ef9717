"""What ``recwatch init`` makes of names, types and figures, without any data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.dataset import ColumnType, Kind, Role
from monitor.clicks import clicks
from monitor.columns import GUESS, LIKELY, SURE, Seen
from monitor.engine import Location
from monitor.guess import MOST_FEATURES, Found, guess

ROWS = 1_000


def column(name: str, kind: Kind = Kind.TEXT, distinct: int = 300, **times: int) -> Seen:
    return Seen(name, ColumnType(kind, kind.value.upper()), ROWS, distinct, times)


USER, ITEM = column("user_id"), column("item_id")
TIME = column("ts", Kind.TIMESTAMP, 900)


def guessed(*columns: Seen, name: str = "table") -> Found:
    found = Found(Location(name, table=name), ROWS, columns)
    guess(found)
    return found


def roles(found: Found) -> dict[str, str]:
    return {role.value: made.column.name for role, made in found.roles.items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("user_id", ("user", "id")), ("userId", ("user", "id")), ("userid", ("user", "id")),
        ("UserID", ("user", "id")), ("USER_ID", ("user", "id")), ("createdat", ("created", "at")),
        ("id_user", ("user", "id")), ("idvisitor", ("visitor", "id")), ("steamid", ("steam", "id")), ("uid", ("uid",)),
        ("is_paid", ("is", "paid")), ("android", ("android",)), ("product_no", ("product", "no")),
        ("event-type", ("event", "type")), ("item_feature_0", ("item", "feature")), ("42", ()),
        ("valid", ("valid",)), ("together", ("together",)),
    ],
)  # fmt: skip
def test_names_are_taken_apart(name: str, words: tuple[str, ...]) -> None:
    assert column(name).words == words


@pytest.mark.parametrize(
    ("name", "role", "sure"),
    [
        ("user_id", Role.USER, SURE), ("userId", Role.USER, SURE), ("personId", Role.USER, SURE),
        ("customer_id", Role.USER, SURE), ("uid", Role.USER, SURE), ("visitor", Role.USER, LIKELY),
        ("member", Role.USER, LIKELY), ("reviewerID", Role.USER, SURE), ("user_pseudo_id", Role.USER, LIKELY),
        ("hashed_user_id", Role.USER, LIKELY), ("owner_user_id", Role.USER, GUESS),
        ("customer_no", Role.USER, SURE), ("cust_no", Role.USER, SURE), ("id_user", Role.USER, SURE),
        ("account_number", Role.USER, LIKELY), ("customer_code", Role.USER, LIKELY),
        ("contentId", Role.ITEM, SURE), ("product_id", Role.ITEM, SURE), ("movieId", Role.ITEM, SURE),
        ("sku", Role.ITEM, SURE), ("article", Role.ITEM, LIKELY), ("article_key", Role.ITEM, SURE),
        ("video", Role.ITEM, GUESS), ("parent_item_id", Role.ITEM, None), ("ean", Role.ITEM, SURE),
        ("item_no", Role.ITEM, SURE), ("product_code", Role.ITEM, LIKELY), ("item_num", Role.ITEM, None),
    ],
)  # fmt: skip
def test_users_and_items_are_known_by_name(name: str, role: Role, sure: str | None) -> None:
    found = guessed(column(name, Kind.INTEGER), TIME)
    assert (found.roles[role].sure if role in found.roles else None) == sure
    assert found.kind == ("events" if sure else "other")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("anonymousId", Role.USER), ("client_id", Role.USER), ("device_id", Role.USER), ("distinct_id", Role.USER),
        ("title_id", Role.ITEM), ("StockCode", Role.ITEM), ("artistID", Role.ITEM), ("pid", Role.ITEM),
    ],
)  # fmt: skip
def test_a_name_that_may_mean_something_else_is_taken_only_where_nothing_better_is_there(name: str, role: Role) -> None:
    better, other = (USER, ITEM) if role is Role.USER else (ITEM, USER)
    may_mean = column(name)
    assert guessed(may_mean, TIME).kind == "other", "it alone makes no events"
    found = guessed(may_mean, other, TIME)
    assert (found.roles[role].column.name, found.roles[role].sure) == (name, GUESS)
    assert name not in guessed(may_mean, other, TIME).features
    assert guessed(may_mean, better, other, TIME).roles[role].column.name == better.name
    few = guessed(column("app_id", distinct=2), USER, TIME)
    assert Role.ITEM not in few.roles, "the own app, no item"


def test_a_uid_that_differs_in_each_row_is_the_events() -> None:
    found = guessed(column("uid", distinct=ROWS), column("customer_no"), column("sku"), TIME, name="clicks")
    assert roles(found) == {"event_id": "uid", "user": "customer_no", "item": "sku", "event_time": "ts"}
    assert roles(guessed(column("uid"), column("sku"), TIME, name="clicks"))["user"] == "uid"


def test_a_fuller_column_is_taken_before_a_better_name() -> None:
    half = Seen("user_id", ColumnType(Kind.TEXT, "TEXT"), ROWS // 2, 300)
    found = guessed(half, column("user_pseudo_id"), ITEM, TIME)
    assert found.roles[Role.USER].column.name == "user_pseudo_id"
    assert found.others[Role.USER][0].why == "its name says so; empty in 50 % of the rows"
    assert roles(guessed(half, column("owner_user_id"), ITEM, TIME))["user"] == "user_id", "somebody else's"
    nearly = Seen("user_id", ColumnType(Kind.TEXT, "TEXT"), 900, 300)
    assert roles(guessed(nearly, column("user_pseudo_id"), ITEM, TIME))["user"] == "user_id"


@pytest.mark.parametrize(
    "name",
    [
        "user_agent", "userRegion", "user-item_affinity_3", "item_feature_0", "sessionId", "session_id",
        "item_category_id", "user_segment_id", "title", "product_name", "account_manager_id",
    ],
)  # fmt: skip
def test_names_that_only_look_like_users_and_items_are_not(name: str) -> None:
    assert not {Role.USER, Role.ITEM} & set(guessed(column(name), TIME).roles)


def test_the_surer_column_is_taken_and_the_others_are_named() -> None:
    found = guessed(column("visitor"), column("tracked_user_id"), USER, ITEM, TIME)
    assert found.roles[Role.USER].column.name == "user_id"
    assert [made.column.name for made in found.others[Role.USER]] == ["visitor", "tracked_user_id"]


def test_of_equals_a_column_with_values_is_taken() -> None:
    empty = Seen("user_id", ColumnType(Kind.TEXT, "TEXT"), 20, 20)
    assert roles(guessed(empty, column("customer_id"), ITEM, TIME))["user"] == "customer_id"


def test_a_session_is_shown_where_no_user_is_found_and_not_taken() -> None:
    found = guessed(column("session_id"), ITEM, TIME)
    assert Role.USER not in found.roles
    assert [made.column.name for made in found.others[Role.USER]] == ["session_id"]
    assert Role.USER not in guessed(ITEM, TIME).roles
    assert all(made.column.name != "session" for made in guessed(USER, column("session"), ITEM, TIME).others[Role.USER])


def test_an_end_that_few_rows_have_is_as_usual() -> None:
    ended = Seen("retired_at", ColumnType(Kind.TIMESTAMP, "TIMESTAMP"), 20, 20)
    found = guessed(column("item_id", distinct=ROWS), ended, name="items")
    assert "empty" not in found.roles[Role.VALID_TO].why


def test_what_few_rows_have_identifies_no_events() -> None:
    few = Seen("transactionid", ColumnType(Kind.INTEGER, "BIGINT"), ROWS // 10, ROWS // 10)
    assert Role.EVENT_ID not in guessed(USER, ITEM, TIME, few, name="events").roles


def test_an_event_id_is_nearly_unique_and_no_session_and_no_time() -> None:
    def event_id(name: str, distinct: int, kind: Kind = Kind.TEXT, **times: int) -> Role | None:
        found = guessed(USER, ITEM, TIME, column(name, kind, distinct, **times), name="events")
        return Role.EVENT_ID if Role.EVENT_ID in found.roles else None

    assert event_id("event_id", 999)
    assert event_id("id", 1_000)
    assert event_id("requestId", 950)
    assert event_id("event_id", 1_000, Kind.INTEGER, s=1_000), "numbers of this size are no times in an id"
    assert not event_id("event_id", 400)
    assert not event_id("sessionId", 1_000)
    assert not event_id("session_event_id", 1_000)
    assert not event_id("event_timestamp", 1_000, Kind.TIMESTAMP)
    assert not event_id("order_id", 1_000)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_the_unit_of_a_time_is_told_by_its_size(unit: str) -> None:
    found = guessed(USER, ITEM, column("timestamp", Kind.INTEGER, 900, **{unit: ROWS}))
    assert found.roles[Role.EVENT_TIME].column.time_unit == unit
    assert found.roles[Role.EVENT_TIME].sure == SURE


def test_what_cuts_a_table_by_time_is_no_feature() -> None:
    cuts = [
        column(name, Kind.INTEGER, 12) for name in ("dt", "hour", "hr", "event_date", "partitionDate", "year_month")
    ]
    found = guessed(USER, ITEM, TIME, *cuts, column("release_year", Kind.INTEGER, 12), column("😀", Kind.INTEGER, 3))
    assert found.features == ("release_year", "😀")


def test_a_few_corrupt_times_do_no_harm_and_many_do() -> None:
    assert guessed(USER, ITEM, column("ts", Kind.INTEGER, 900, s=960)).kind == "events"
    found = guessed(USER, ITEM, column("ts", Kind.INTEGER, 900, s=900))
    assert found.kind == "other"
    assert "no times" in found.why


def test_times_may_be_text() -> None:
    made = guessed(USER, ITEM, column("created_at", text=ROWS)).roles[Role.EVENT_TIME]
    assert (made.column.name, made.sure) == ("created_at", LIKELY)
    assert "ISO 8601" in made.why


def test_ids_as_large_as_times_are_no_times() -> None:
    found = guessed(column("user_id", Kind.INTEGER, 300, s=ROWS), column("item_id", Kind.INTEGER, 300, s=ROWS), TIME)
    assert roles(found) == {"user": "user_id", "item": "item_id", "event_time": "ts"}


def test_the_events_own_time_is_before_those_beside_it() -> None:
    names = ("originalTimestamp", "sentAt", "client_event_time", "event_previous_timestamp", "timestamp", "etl_tstamp")
    found = guessed(USER, ITEM, *(column(name, text=ROWS) for name in names))
    assert found.roles[Role.EVENT_TIME].column.name == "timestamp"
    others = found.others[Role.EVENT_TIME]
    assert [made.column.name for made in others[:2]] == ["client_event_time", "originalTimestamp"]
    assert (others[0].sure, others[1].sure) == (SURE, GUESS)
    assert found.roles[Role.INGESTED_AT].column.name == "etl_tstamp"
    assert roles(guessed(USER, ITEM, column("sent_at", text=ROWS)))["event_time"] == "sent_at", "nothing better"


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (column("timestamp"), "timestamp is TEXT, neither ISO 8601 text nor Unix s, ms or us"),
        (column("log_date", Kind.INTEGER), "log_date is INTEGER, not Unix s, ms or us"),
        (column("dt", Kind.INTEGER), "dt is INTEGER, not Unix s, ms or us"),
    ],
)
def test_a_time_that_cannot_be_read_is_named(seen: Seen, says: str) -> None:
    assert (
        guessed(USER, ITEM, seen).why
        == f"no times found: {says}; a view can make it one, see monitor/guides/engines.md"
    )
    assert guessed(USER, ITEM).why == "no times found"


def test_times_are_told_apart() -> None:
    times = (
        column("updated_at", Kind.TIMESTAMP), column("event_date", Kind.DATE), column("received_at", Kind.TIMESTAMP),
        column("event_time", Kind.TIMESTAMP), column("birth_date", Kind.DATE),
    )  # fmt: skip
    found = guessed(*times, USER, ITEM)
    assert roles(found) | {"event_time": "event_time", "ingested_at": "received_at"} == roles(found)
    assert found.others[Role.EVENT_TIME][0].column.name == "event_date"
    assert found.others[Role.EVENT_TIME][0].sure == LIKELY
    assert found.others[Role.EVENT_TIME][1].sure == GUESS


@pytest.mark.parametrize(
    ("name", "columns", "kind", "sure"),
    [
        ("interactions", (USER, ITEM, TIME), "events", SURE),
        ("anything", (USER, ITEM, TIME), "events", SURE),
        ("impressions", (ITEM, TIME), "events", LIKELY),
        ("user_events", (column("user_id", distinct=ROWS), TIME), "events", LIKELY),
        ("anything", (ITEM, TIME), "events", LIKELY),
        ("clicks", (column("page"), TIME), "events", GUESS),
        ("items", (ITEM,), "items", LIKELY),
        ("items", (column("item_id", distinct=ROWS), column("release_date", Kind.DATE)), "items", SURE),
        ("products", (column("id", distinct=ROWS), column("updated_at", Kind.TIMESTAMP)), "items", SURE),
        ("products", (column("product_id", distinct=ROWS), USER, TIME), "items", SURE),
        ("movies", (column("movieId", distinct=ROWS),), "items", SURE),
        ("dim_customers", (column("customer_id", distinct=ROWS), TIME), "users", SURE),
        ("anything", (column("uid", distinct=ROWS),), "users", GUESS),
        ("events_rejected", (USER, ITEM, TIME), "rejected", LIKELY),
        ("dead_letters", (TIME,), "rejected", LIKELY),
        ("gateway_sent", (column("minute", Kind.TIMESTAMP), column("events", Kind.INTEGER)), "sent", LIKELY),
        ("item_embeddings", (column("item_id", distinct=ROWS),), "item_vocabulary", GUESS),
        ("user_factors", (column("user_id", distinct=ROWS),), "user_vocabulary", GUESS),
        ("ratings", (USER, ITEM), "other", GUESS),
        ("settings", (column("key"), column("setting")), "other", GUESS),
    ],
)  # fmt: skip
def test_what_a_dataset_is(name: str, columns: tuple[Seen, ...], kind: str, sure: str) -> None:
    found = guessed(*columns, name=name)
    assert (found.kind, found.sure) == (kind, sure)
    assert found.why


def test_roles_fit_what_the_dataset_is() -> None:
    created = column("created_at", Kind.TIMESTAMP)
    ended = column("retired_at", Kind.TIMESTAMP)
    item = column("item_id", distinct=ROWS)
    assert roles(guessed(item, created, ended, column("price", Kind.NUMBER), name="items")) == {
        "item": "item_id", "valid_from": "created_at", "valid_to": "retired_at",
    }  # fmt: skip
    assert roles(guessed(USER, ITEM, created)) == {"user": "user_id", "item": "item_id", "event_time": "created_at"}
    sent = guessed(column("minute", Kind.TIMESTAMP), column("sent", Kind.INTEGER), column("source"), name="sent")
    assert roles(sent) == {"event_time": "minute", "value": "sent"}
    assert roles(guessed(column("id", distinct=ROWS), name="users")) == {"user": "id"}


@pytest.mark.parametrize(
    ("seen", "sure"),
    [
        (column("eventType", distinct=5), SURE), (column("event", distinct=5), SURE),
        (column("action", distinct=3), SURE),
        (column("type", distinct=5), GUESS), (column("event_type", Kind.INTEGER, 5), GUESS),
        (column("device_type", distinct=5), None), (column("content_type", distinct=5), None),
        (column("name", distinct=5), None), (column("event_type", distinct=400), None),
        (column("clicked", Kind.BOOLEAN, 2), LIKELY), (column("is_click", Kind.INTEGER, 2), LIKELY),
        (column("clicks", Kind.INTEGER, 2), None), (column("click", Kind.INTEGER, 9), None),
        (column("click_price", Kind.NUMBER, 2), None),
    ],
)  # fmt: skip
def test_an_event_type_has_few_values_and_says_so(seen: Seen, sure: str | None) -> None:
    made = guessed(USER, ITEM, TIME, seen).roles.get(Role.EVENT_TYPE)
    assert (made and made.sure) == sure


@pytest.mark.parametrize(
    ("seen", "sure"),
    [
        (column("source", distinct=3), SURE), (column("platform", distinct=3), SURE),
        (column("client", distinct=3), LIKELY),
        (column("app_name", distinct=3), LIKELY), (column("traffic_source", distinct=3), GUESS),
        (column("app_version", distinct=3), None), (column("client_ip", distinct=30), None),
        (column("source", distinct=900), None), (column("source_id", distinct=3), None),
    ],
)  # fmt: skip
def test_a_source_has_few_values_and_says_so(seen: Seen, sure: str | None) -> None:
    made = guessed(USER, ITEM, TIME, seen).roles.get(Role.SOURCE)
    assert (made and made.sure) == sure


@pytest.mark.parametrize(
    ("rows", "shown", "hit", "sure"),
    [
        ({"ITEM_IMPRESSION": 90, "ItemClick": 9, "view": 20}, ("ITEM_IMPRESSION",), ("ItemClick",), LIKELY),
        ({"view_item_list": 90, "select_item": 9, "view_item": 20}, ("view_item_list",), ("select_item",), LIKELY),
        ({"Product List Viewed": 90, "Product Clicked": 9}, ("Product List Viewed",), ("Product Clicked",), LIKELY),
        ({"impressions": 90, "clicks": 9, "taps": 3}, ("impressions",), ("clicks", "taps"), LIKELY),
        ({"impression": 90, "view": 9}, ("impression",), ("view",), GUESS),
        ({"view": 90, "click": 9}, ("view",), ("click",), GUESS),
    ],
)
def test_event_types_tell_what_was_shown_and_what_was_clicked(
    rows: dict[str, int], shown: tuple[str, ...], hit: tuple[str, ...], sure: str
) -> None:
    found = clicks(rows)
    assert found is not None
    assert (found.shown, found.hit, found.sure) == (shown, hit, sure)


@pytest.mark.parametrize(
    "rows",
    [
        {}, {"impression": 90}, {"click": 9}, {"view": 90, "addtocart": 9, "transaction": 3}, {"0": 90, "2": 9},
        {"view": 90, "select_item": 9}, {"view": 90, "view_cart": 9}, {"impression": 9, "click": 90},
        {"impression_failed": 90, "click": 9}, {"0": 90, "1": 9}, {"impression": 90, "${click}": 9},
        {"impression": 90, "取消click": 9},
    ],
)  # fmt: skip
def test_event_types_that_do_not_tell_are_left_alone(rows: dict[str, int]) -> None:
    assert clicks(rows) is None


def test_what_was_clicked_is_worth_more_than_a_type_that_never_changes() -> None:
    clicked = column("clicked", Kind.BOOLEAN, 2)
    assert roles(guessed(USER, ITEM, TIME, column("event", distinct=1), clicked))["event_type"] == "clicked"
    assert roles(guessed(USER, ITEM, TIME, column("event", distinct=2), clicked))["event_type"] == "event"


@pytest.mark.parametrize(("no", "yes"), [("false", "true"), ("0", "1")])
def test_a_row_may_say_itself_whether_it_was_clicked(no: str, yes: str) -> None:
    found = clicks({no: 90, yes: 9}, is_flag=True)
    assert found is not None
    assert (found.shown, found.hit, found.share) == ((no, yes), (yes,), 1.0)
    assert clicks({no: 90, "2": 9}, is_flag=True) is None


def test_the_cohorts_of_an_experiment_are_shown_and_not_taken() -> None:
    found = guessed(USER, ITEM, TIME, column("ab_group", distinct=2), column("variant_id", distinct=2), column("arm"))
    assert Role.COHORT not in found.roles
    assert [other.column.name for other in found.others[Role.COHORT]] == ["ab_group"]


def test_features_are_neither_ids_nor_times_nor_free_text() -> None:
    found = guessed(
        USER, ITEM, TIME,
        column("price", Kind.NUMBER, 999), column("device", distinct=5), column("comment", distinct=900),
        column("order_id", Kind.INTEGER, 900), column("constant", distinct=1), column("is_new", Kind.BOOLEAN, 2),
        column("seen", Kind.INTEGER, 900, s=ROWS), column("tags", Kind.OTHER, 0), column("${HOME}", distinct=3),
    )  # fmt: skip
    assert found.features == ("price", "device", "is_new")
    assert roles(found)["value"] == "price", "a value may be a feature too"


@pytest.mark.parametrize(
    "name",
    ["client_ip", "user_ipaddress", "page_url", "cookie", "session", "reviewerName", "item_name", "reviewTime", "artid",
     "invoice_no"],
)  # fmt: skip
def test_what_tells_people_or_items_apart_is_no_feature(name: str) -> None:
    found = guessed(USER, ITEM, TIME, column(name, distinct=20), column("geo_country_name", distinct=20))
    assert found.features == ("geo_country_name",)


def test_a_number_that_counts_the_rows_is_no_feature() -> None:
    many = Seen("row", ColumnType(Kind.INTEGER, "BIGINT"), 50_000, 50_000)
    wide = Seen("affinity", ColumnType(Kind.NUMBER, "DOUBLE"), 50_000, 50_000)
    assert guessed(USER, ITEM, TIME, many, wide).features == ("affinity",)


def test_features_are_bounded_and_the_rest_is_named() -> None:
    found = guessed(USER, ITEM, TIME, *(column(f"f{n}", Kind.NUMBER) for n in range(MOST_FEATURES + 5)))
    assert len(found.features) == MOST_FEATURES
    assert found.features_left_out == tuple(f"f{n}" for n in range(MOST_FEATURES, MOST_FEATURES + 5))


_NAMES = ["user_id", "id", "item", "ts", "event_id", "source", "created_at"]
_SEEN = st.builds(
    lambda name, kind, filled, share, unit: Seen(
        name, ColumnType(kind, kind.value), filled, int(filled * share), {unit: filled}
    ),
    st.one_of(
        st.text(max_size=12), st.sampled_from(["user_id", "id", "item", "ts", "event_id", "source", "created_at"])
    ),
    st.sampled_from(Kind),
    st.integers(0, 50_000),
    st.floats(0, 1),
    st.sampled_from(["s", "ms", "us", "text", "none"]),
)


@given(st.text(max_size=12), st.lists(_SEEN, max_size=8, unique_by=lambda seen: seen.name))
def test_whatever_is_there_a_column_plays_one_part(name: str, columns: list[Seen]) -> None:
    found = guessed(*columns, name=name)
    used = [made.column.name for made in found.roles.values()]
    assert len(used) == len(set(used))
    value = {found.roles[Role.VALUE].column.name} if Role.VALUE in found.roles else set()
    assert not set(found.features) & (set(used) - value)
    assert len(found.features) <= MOST_FEATURES
    assert all(made.why and made.sure in (SURE, LIKELY, GUESS) for made in found.roles.values())
