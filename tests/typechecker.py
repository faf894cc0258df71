"""The run-time checker behind test_annotations: beartype, with Python's own rule that a whole number is also a float."""
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
