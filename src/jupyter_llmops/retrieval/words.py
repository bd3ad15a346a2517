"""Finding by words: which of a few thousand short texts hold those of a query, typing errors allowed.

Okapi BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond") over
words in lower case without accents. A word of the query also counts, for less, for words that begin
with it and for words that differ from it by a typing error.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from functools import lru_cache

# Saturation and length normalization, as in most implementations.
_K1, _B = 1.2, 0.75
_NAME_WEIGHT = 3
_WEIGHT_BEGINS, _WEIGHT_TYPO = 0.7, 0.6
_SHORTEST_BEGINNING, _SHORTEST_TYPO = 3, 4
_ALIKE = 0.8
# A text that holds less of what tells the texts apart ("a", "the" do not) is no find.
_LEAST_COVERAGE = 1 / 3

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# In a small catalog these are rare and would count; Lucene's English list and the words of questions.
_SAYS_NOTHING = frozenset(
    _WORD.findall(
        "a an and are as at be but by do does for from how i if in into is it me my no not of on or such that "
        "the their then there these they this to was what when where which who why will with you your"
    )
)


class WordIndex:
    """Words of named texts.

    Parameters
    ----------
    texts : iterable of (name, text)
        A name's own words count three times.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths: list[int] = []
        for number, (name, text) in enumerate(texts):
            counts = Counter(words_of(text))
            for word in words_of(name):
                counts[word] += _NAME_WEIGHT
            self._lengths.append(sum(counts.values()))
            for word, count in counts.items():
                self._postings[word].append((number, count))
        self._mean_length = sum(self._lengths) / len(self._lengths) if self._lengths else 1.0
        self._by_letter: dict[str, list[str]] = defaultdict(list)
        for word in self._postings:
            self._by_letter[word[0]].append(word)

    def search(self, query: str) -> list[tuple[int, float, tuple[str, ...]]]:
        """Return (number of the text, score, its words that matched), best first."""
        asked_for = words_of(query)
        wanted = dict.fromkeys([word for word in asked_for if word not in _SAYS_NOTHING] or asked_for)
        scores: dict[int, float] = defaultdict(float)
        coverage: dict[int, float] = defaultdict(float)
        matched: dict[int, list[str]] = defaultdict(list)
        total = 0.0
        for asked in wanted:
            best: dict[int, tuple[float, str]] = {}
            rarity = self._rarity(len(self._postings.get(asked, ())))
            for word, weight in self._like(asked):
                for number, count in self._postings[word]:
                    score = weight * self._rarity(len(self._postings[word])) * self._saturated(number, count)
                    if score > best.get(number, (0.0, ""))[0]:
                        best[number] = (score, word)
            total += rarity if best else 0.0  # a word that no text has tells none from another
            for number, (score, word) in best.items():
                scores[number] += score
                coverage[number] += rarity
                matched[number].append(word)
        found = [number for number in scores if coverage[number] >= _LEAST_COVERAGE * total]
        found.sort(key=lambda number: (-scores[number], number))
        return [(number, scores[number], tuple(matched[number])) for number in found]

    def _rarity(self, texts: int) -> float:
        return math.log(1 + (len(self._lengths) - texts + 0.5) / (texts + 0.5))

    def _saturated(self, number: int, count: int) -> float:
        length = self._lengths[number] / self._mean_length
        return count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * length))

    def _like(self, asked: str) -> Iterator[tuple[str, float]]:
        """Yield the indexed words that a word of a query stands for, and how much each counts."""
        if asked in self._postings:
            yield asked, 1.0
        near = self._by_letter.get(asked[0], ())
        for word in near if len(asked) >= _SHORTEST_BEGINNING else ():
            if word != asked and word.startswith(asked):
                yield word, _WEIGHT_BEGINS
        if asked in self._postings or len(asked) < _SHORTEST_TYPO:
            return
        matcher = SequenceMatcher(b=asked, autojunk=False)
        for word in near:
            if abs(len(word) - len(asked)) > 2 or len(word) < _SHORTEST_TYPO or word.startswith(asked):
                continue
            matcher.set_seq1(word)
            if matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE:
                yield word, _WEIGHT_TYPO


@lru_cache(maxsize=8)
def word_index(texts: tuple[tuple[str, str], ...]) -> WordIndex:
    """Return the index of some texts; made once as long as they stay the same."""
    return WordIndex(texts)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case without accents, ``codeReview`` and ``code_review`` as two."""
    spread = _CAMEL.sub(" ", text)
    if not spread.isascii():
        decomposed = unicodedata.normalize("NFKD", spread)
        spread = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return _WORD.findall(spread.casefold())
