"""The cells of a notebook with data frames and arrays, and how they are timed; imports nothing of this project's.

The same in the project's environment and in that of its peers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

SETUP = (
    "import numpy as np\nimport pandas as pd\nrng = np.random.default_rng(7)\nrows = 200_000",
    (
        "sales = pd.DataFrame({'shop': rng.integers(0, 500, rows), 'price': rng.random(rows) * 100, "
        "'count': rng.integers(1, 9, rows)})\nshops = pd.DataFrame({'shop': np.arange(500), 'city': rng.integers(0, 40, 500)})"
    ),
    "matrix = rng.random((700, 700))\nvector = rng.random(700)\ncurves = rng.random((200, 2000))",
)
CELLS = (
    "sales['total'] = sales.price * sales['count'] * {n}\nsales.total.sum()",
    "by_shop = sales.groupby('shop').agg(total=('total', 'sum'), mean=('price', 'mean'))\nby_shop.head({n} % 5 + 3)",
    "joined = sales.merge(shops, on='shop')\nby_city = joined.groupby('city').total.sum().sort_values()\nby_city.tail()",
    "product = matrix @ matrix.T + {n}\nproduct.trace()",
    "ranked = sales.sort_values(['shop', 'total'], ascending=False)\nranked.head()",
    "best = ranked.groupby('shop').head(3)\nlen(best) + {n}",
    "values, vectors = np.linalg.eigh(product[:200, :200])\nvalues[-3:] + {n}",
    (
        "def scaled(frame, factor={n}):\n    '''Scale what is numeric.'''\n    return frame.select_dtypes('number') * factor\n\n"
        "scaled(by_shop).describe()"
    ),
    "spectrum = np.abs(np.fft.rfft(curves, axis=1))\nspectrum.mean(axis=0)[:5] * {n}",
    "cheap = sales[(sales.price < 50) & (sales['count'] > {n} % 8)]\nprint(len(cheap), 'of', len(sales))",
    "pivot = joined.pivot_table(index='city', columns='count', values='total', aggfunc='mean')\npivot.iloc[:3, :3]",
    "solution = np.linalg.solve(matrix + {n} * np.eye(700), vector)\nfloat(solution.sum())",
)


def sources(count: int) -> Iterator[str]:
    """Yield the cells of a notebook, each another one."""
    for number in range(count):
        yield CELLS[number % len(CELLS)].replace("{n}", str(number + 1))


def seconds_of(shell: Any, source: str) -> float:
    """Run one cell and return its seconds."""
    begun = time.perf_counter()
    result = shell.run_cell(source, store_history=True)
    taken = time.perf_counter() - begun
    if not result.success:
        raise AssertionError(f"a cell failed: {source}")
    return taken
