"""What is imported beside the writer of events."""

import importlib
import inspect
import sys

import pytest

from mdp_jax.training import events


def test_a_stand_in_can_be_looked_at_and_becomes_the_library_later(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with events._imported_later("colorsys", "no_such_library"):
        stand_in = importlib.import_module("colorsys")
        assert isinstance(stand_in, events._Later)
        assert not hasattr(stand_in, "__file__")  # inspect, which PyTorch uses when it is imported, asks every module
        assert inspect.getmodule(events.EventsWriter) is not None
        assert "no_such_library" not in sys.modules
    assert "colorsys" not in sys.modules
    assert stand_in.rgb_to_hsv(0.5, 0.5, 0.5) == (0.0, 0.0, 0.5)


def test_a_library_that_is_not_wanted_is_not_found_for_a_while(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with events._not_imported("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    found = importlib.import_module("colorsys")
    with events._not_imported("colorsys"):  # it was imported before
        assert importlib.import_module("colorsys") is found
