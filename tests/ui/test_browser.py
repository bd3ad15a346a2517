"""Whether the browser tests can run at all."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_there_is_a_browser(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<h1>Here</h1>")
    assert page.inner_text("h1") == "Here"
    page.close()
