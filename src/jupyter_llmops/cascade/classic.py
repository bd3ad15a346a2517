"""The classic stage: a fitted scikit-learn classifier that takes texts and gives probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.cascade import Cascade

_RECIPE = "make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)"


class ClassicStage:
    """Asks a classifier and puts its probabilities in the order of the cascade's labels.

    Parameters
    ----------
    name : str
        The notebook variable that holds it.
    classifier : object
        Fitted, with ``predict_proba`` and ``classes_``.
    labels : tuple of str
        The cascade's labels.

    Raises
    ------
    UsageError
        It is not fitted, gives no probabilities, or knows other labels.
    """

    def __init__(self, name: str, classifier: Any, labels: tuple[str, ...]) -> None:
        self.name = name
        self._classifier = classifier
        classes = _classes(name, classifier)
        if set(classes) != set(labels) or len(classes) != len(labels):
            raise UsageError(
                f"The classifier {name!r} knows the labels {', '.join(sorted(classes))}, the cascade has "
                f"{', '.join(labels)}.",
                f"Type: --labels {','.join(classes)} (or fit {name} with the cascade's labels).",
            )
        self._order = [classes.index(label) for label in labels]

    def probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one row of probabilities a text, in the order of the cascade's labels."""
        try:
            table = self._classifier.predict_proba(list(texts))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"The classifier {self.name!r} can't judge texts: {_first_line(error)}.",
                f"It must take plain texts, as a pipeline does: {_RECIPE}",
            ) from error
        # A row of another length is kept as it is: whoever asked checks what came.
        return [
            [float(row[column]) for column in self._order] if len(row) == len(self._order) else list(row)
            for row in table
        ]

    def digest(self) -> str:
        """Return a digest of the classifier's parameters, empty when they can't be hashed.

        joblib walks the object and hashes what it finds; nothing is ever loaded from a pickle.
        """
        import joblib

        try:
            return f"joblib-sha1:{joblib.hash(self._classifier, hash_name='sha1')}"
        except Exception:  # noqa: BLE001 - an object of the user's may refuse in any way
            return ""


def classic_stages(cascade: Cascade, classifiers: Mapping[str, Any]) -> dict[str, ClassicStage]:
    """Return the checked classic stages of a cascade by name.

    Raises
    ------
    UnknownNameError
        A stage's classifier is not there.
    UsageError
        A classifier can't be used; see `ClassicStage`.
    """
    found = {}
    for stage in cascade.stages:
        if stage.kind != "classic":
            continue
        if stage.name not in classifiers:
            raise UnknownNameError("classifier", stage.name, classifiers)
        found[stage.name] = ClassicStage(stage.name, classifiers[stage.name], cascade.labels)
    return found


def _classes(name: str, classifier: Any) -> list[str]:
    """Return the labels that a classifier knows, after checking that it can be asked."""
    if isinstance(classifier, type):
        raise UsageError(f"{name!r} is a class, not a fitted classifier.", f"Type: {name} = {_RECIPE}")
    if not _is_fitted(classifier):
        raise UsageError(f"The classifier {name!r} is not fitted.", f"Type: {name}.fit(texts, labels)")
    if not callable(getattr(classifier, "predict_proba", None)):
        raise UsageError(
            f"{name!r} ({type(classifier).__name__}) gives no probabilities, which a cascade decides by.",
            "Wrap it: CalibratedClassifierCV(classifier).fit(texts, labels), from sklearn.calibration, "
            f"or use {_RECIPE}",
        )
    classes = getattr(classifier, "classes_", None)
    if classes is None:
        raise UsageError(f"{name!r} does not say which labels it knows (classes_).", f"Use {_RECIPE}")
    return [str(one) for one in classes]


def _is_fitted(classifier: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    except TypeError:  # not one of scikit-learn's: judged by what it has
        return True
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
