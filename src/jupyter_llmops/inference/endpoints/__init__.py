"""Answers of OpenAI-compatible endpoints, one or several at once.

``engine`` is what the rest of the package sees. It turns a `Model` into `member`s of a ``pool``; ``dispatch``
gives each request to one of them under its ``gate`` (limits and rests), through the ``client``, which speaks the
``protocol`` and says in ``failures`` what went wrong.
"""
