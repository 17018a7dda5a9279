import pytest

from api.problems import PROBLEMS
from domain import errors


def leaves(error):
    below = [child for child in error.__subclasses__() if child.__module__ == errors.__name__]
    return {leaf for child in below for leaf in leaves(child)} if below else {error}


@pytest.mark.parametrize("error", sorted(leaves(errors.EiokuError), key=lambda e: e.__name__))
def test_every_leaf_of_the_error_tree_has_a_row(error):
    status, title = PROBLEMS[error]
    assert 400 <= status < 600
    assert title


def test_codes_are_upper_snake_case_and_not_found_is_404():
    for error, (status, _) in PROBLEMS.items():
        assert error.code == error.code.upper()
        assert error.code.replace("_", "").isalnum()
        assert (status == 404) == issubclass(error, errors.NotFound | errors.MediaMissing)
        assert (status == 422) >= issubclass(error, errors.Refused)
