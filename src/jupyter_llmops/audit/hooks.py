"""The events of a shell by which cells are stamped, put back where user code takes them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class ShellHooks:
    """Keeps callbacks registered for events of a shell.

    A cell may clear ``get_ipython().events.callbacks``, by mistake or not. So `trigger` of the shell's
    event manager looks first whether ours are still there; that costs 1 µs an event.

    Parameters
    ----------
    events : EventManager
        Of the shell.
    callbacks : mapping of event to callable
        What to call.
    """

    def __init__(self, events: Any, callbacks: Mapping[str, Callable[..., None]]) -> None:
        self._events = events
        self._callbacks = dict(callbacks)
        self._trigger: Any = None
        self.restored = 0
        """How often a callback had to be put back."""

    def register(self) -> None:
        """Begin to be called."""
        for event, callback in self._callbacks.items():
            self._events.register(event, callback)
        trigger = self._events.trigger

        def guarded(event: str, *arguments: Any, **named: Any) -> Any:
            self._put_back(event)
            return trigger(event, *arguments, **named)

        self._trigger = self._events.trigger = guarded

    def unregister(self) -> None:
        """Be called no more."""
        if vars(self._events).get("trigger") is self._trigger:
            del self._events.trigger
        self._trigger = None
        callbacks, self._callbacks = self._callbacks, {}  # a guard that others have wrapped does nothing
        for event, callback in callbacks.items():
            if callback in self._events.callbacks.get(event, ()):
                self._events.unregister(event, callback)

    def _put_back(self, event: str) -> None:
        try:
            registered = self._events.callbacks.setdefault(event, [])
            callback = self._callbacks.get(event)
            if callback is not None and callback not in registered:
                self._events.register(event, callback)
                self.restored += 1
        except Exception:  # noqa: BLE001 - somebody's own thing stands there; the cell goes on
            return
