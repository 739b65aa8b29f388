import contextlib
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution import canonical

LIMIT = 4 << 20

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=6)


def refused(text: str, limit: int = LIMIT) -> ToolwrightError:
    with pytest.raises(ToolwrightError) as caught:
        canonical.parse(text, limit)
    return caught.value


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items: list[tuple[str, Any]] = [(key, shuffled(item, chance)) for key, item in value.items()]  # pyright: ignore[reportUnknownVariableType]
        chance.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, chance) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@given(OBJECTS, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([None, 1, "\t", " \n\r"]))
def test_the_same_object_has_the_same_bytes_however_it_is_written(
    value: dict[str, Any], chance: random.Random, escaped: bool, indent: int | str | None
) -> None:
    plain, expected = canonical.parse(json.dumps(value), LIMIT)
    text = json.dumps(shuffled(value, chance), ensure_ascii=escaped, indent=indent)
    again, found = canonical.parse(text, LIMIT)
    assert found == expected
    assert again == plain == value
    assert canonical.checked(value, "arguments", LIMIT)[1] == expected


@given(OBJECTS)
def test_the_canonical_form_reads_back_as_the_same_object_and_is_its_own_canonical_form(value: dict[str, Any]) -> None:
    _, encoded = canonical.parse(json.dumps(value), LIMIT)
    assert exactly(json.loads(encoded), value)
    assert canonical.parse(encoded.decode(), LIMIT)[1] == encoded


def exactly(found: Any, expected: Any) -> bool:
    """Equal also in type and sign: 1, 1.0 and True differ, as do 0.0 and -0.0."""
    return repr(sort(found)) == repr(sort(expected))


def sort(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return [sort(item) for item in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def test_keys_are_sorted_by_code_point_and_nothing_is_escaped_without_need() -> None:
    text = '{ "\\u00e9": 1, "z": [ ], "A": 1.0, "\\ud83d\\ude00": "\\/", "\\uffee": null }'
    assert canonical.parse(text, LIMIT)[1].decode() == '{"A":1.0,"z":[],"é":1,"\uffee":null,"😀":"/"}'


@pytest.mark.parametrize("number", [-(2**63), -(2**63) + 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_integers_of_64_bits_are_exact(number: int) -> None:
    arguments, encoded = canonical.parse(f'{{"n":{number}}}', LIMIT)
    assert arguments == {"n": number}
    assert type(arguments["n"]) is int
    assert encoded == f'{{"n":{number}}}'.encode()


@given(st.integers(min_value=2**64) | st.integers(max_value=-(2**63) - 1))
def test_an_integer_beyond_64_bits_is_refused_and_never_read_as_a_float(number: int) -> None:
    error = refused(f'{{"deep":[{{"n":{number}}}]}}')
    assert error.failure.reason is Reason.INVALID_ARGUMENTS
    assert error.failure.violations[0].field == "arguments_json"


@pytest.mark.parametrize(
    "number", [str(2**64), str(-(2**63) - 1), "1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 300, "9" * 25]
)
def test_the_refusal_of_a_large_integer_is_short(number: str) -> None:
    assert len(str(refused(f'{{"n":{number}}}'))) < 200


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "nan", "01", "+1", "1.", ".5"])
def test_what_is_not_a_number_of_json_is_refused(text: str) -> None:
    assert refused(f'{{"n":{text}}}').failure.reason is Reason.INVALID_ARGUMENTS


@pytest.mark.parametrize("text", ["1e300", "1.8446744073709552e19", "0.1234567890123456789012345", "1E+2", "-0.0"])
def test_a_number_with_a_point_or_an_exponent_stays_a_float(text: str) -> None:
    arguments, encoded = canonical.parse(f'{{"n":{text}}}', LIMIT)
    assert exactly(arguments["n"], float(text))
    assert exactly(json.loads(encoded)["n"], float(text))


@pytest.mark.parametrize("text", ["[]", "1", '"text"', "null", "true", "[{}]"])
def test_what_is_not_an_object_is_refused(text: str) -> None:
    assert "must be a JSON object" in str(refused(text))


@pytest.mark.parametrize("text", ["{", "{}{}", "{'a':1}", '{"a":1,}', "\ufeff{}", '{"a":"\x01"}', " ", '{"a":tru}'])
def test_what_is_not_json_is_refused(text: str) -> None:
    assert "is not JSON" in str(refused(text))


def test_no_text_at_all_is_the_empty_object() -> None:
    assert canonical.parse("", LIMIT) == ({}, b"{}")


@pytest.mark.parametrize("text", ['{"a":"\ud800"}', '{"a":"\\ud800"}', '{"\\udfff":1}', '{"a":"\\udc00\\ud800"}'])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    assert refused(text).failure.reason is Reason.INVALID_ARGUMENTS


def test_half_a_surrogate_pair_is_refused_in_values_too() -> None:
    with pytest.raises(ToolwrightError, match="cannot be written as JSON"):
        canonical.checked({"a": "\ud800"}, "arguments", LIMIT)


def test_of_duplicate_keys_the_last_counts() -> None:
    assert canonical.parse('{"a":1,"b":2,"a":3}', LIMIT) == ({"a": 3, "b": 2}, b'{"a":3,"b":2}')


@pytest.mark.parametrize("depth", [canonical.NESTING_LIMIT, 1_000, 1_023, 2_000, 100_000])
@pytest.mark.parametrize("tail", ["", ',"n":11111111111111111111'])
def test_what_is_nested_too_deep_is_refused(depth: int, tail: str) -> None:
    error = refused('{"a":' + "[" * depth + "]" * depth + tail + "}")
    assert error.failure.reason is Reason.INVALID_ARGUMENTS


def test_nesting_up_to_the_limit_is_accepted() -> None:
    inside = canonical.NESTING_LIMIT - 1
    text = '{"a":' + "[" * inside + "]" * inside + "}"
    assert canonical.parse(text, LIMIT)[1] == text.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_json_has_no_number_for_are_refused(value: float) -> None:
    for arguments in ({"a": value}, {"a": None, "b": [1, {"c": [value]}]}):
        with pytest.raises(ToolwrightError, match="NaN or infinite"):
            canonical.checked(arguments, "arguments", LIMIT)


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, {"a": 2**64}, {"a": {1, 2}}, {"a": b"bytes"}])
def test_values_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises(ToolwrightError, match="cannot be written as JSON"):
        canonical.checked(value, "arguments", LIMIT)


def test_values_that_hold_themselves_are_refused() -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    with pytest.raises(ToolwrightError, match="cannot be written as JSON"):
        canonical.checked(circle, "arguments", LIMIT)


def test_nulls_are_no_mistake() -> None:
    value = {"a": None, "b": [None, {"c": None, "d": "null"}]}
    assert canonical.checked(value, "arguments", LIMIT)[0] == value


def test_long_digit_strings_inside_texts_are_texts() -> None:
    digits = "1" * 100_000
    value = {"a": digits, digits: "x" + digits, "b": '\\"' + digits, "c": 1.5}
    assert canonical.parse(json.dumps(value), LIMIT)[0] == value


# Converting that many digits would take minutes.
@pytest.mark.timeout(20)
@pytest.mark.parametrize("head", ["", "-", "0.", "0.5,", "[[]],"])
def test_four_megabytes_of_digits_are_refused_without_being_converted(head: str) -> None:
    digits = "7" * (LIMIT - 100)
    text = f'{{"a":[{head}{digits}]}}'
    if head == "0.":
        text = text.replace("]}", ",18446744073709551616]}")
    assert refused(text).failure.reason is Reason.INVALID_ARGUMENTS


def test_many_large_integers_are_refused_at_the_first() -> None:
    assert "lies outside" in str(refused('{"a":[' + ",".join(["9" * 308] * 12_000) + "]}"))


def test_the_limit_holds_for_the_text_and_for_the_canonical_form() -> None:
    error = refused('{"a":"' + "x" * 100 + '"}', limit=100)
    assert error.failure.reason is Reason.PAYLOAD_TOO_LARGE
    assert error.failure.metadata == {"size_bytes": "108", "limit_bytes": "100", "outcome": "not_started"}
    with pytest.raises(ToolwrightError, match="at most 100"):
        canonical.checked({"a": "é" * 50}, "arguments", 100)
    assert canonical.parse('{"a":"' + "x" * 92 + '"}', 100)[0] == {"a": "x" * 92}


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ToolwrightError):
        canonical.parse(text, LIMIT)


PARTS = st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.binary(max_size=8))


@given(PARTS, PARTS)
def test_the_digest_differs_by_tool_version_user_and_arguments(
    one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]
) -> None:
    assert (canonical.digest(*one) == canonical.digest(*other)) is (one == other)


def test_the_digest_cannot_be_shifted_from_one_part_to_the_next() -> None:
    parts = [("ab", "c", "u"), ("a", "bc", "u"), ("ab", "", "cu"), ("", "abc", "u"), ("ab", "cu", "")]
    assert len({canonical.digest(*part, b"{}") for part in parts}) == len(parts)
    assert len(canonical.digest("a", "1", "u", b"{}")) == 32
