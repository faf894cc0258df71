"""The run-time checker behind test_annotations: beartype, with Python's own rule that a whole number is also a float."""
import typing

from beartype import BeartypeConf, beartype

beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(decorated):
    "Protocols become checkable first; the course uses them as plain annotations."
    for hint in getattr(decorated, "__annotations__", {}).values():
        for one in (hint, *typing.get_args(hint)):
            if getattr(one, "_is_protocol", False):
                typing.runtime_checkable(one)
    return beartyped(decorated)
