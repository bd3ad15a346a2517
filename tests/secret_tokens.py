"""Secrets drawn at random in the documented formats of services; knows nothing of the package under test.

The formats are those that the rules of gitleaks, detect-secrets and TruffleHog and GitHub's list of
secret scanning patterns describe. None of these is a real one.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM = string.ascii_letters + DIGITS
HEX = "0123456789abcdef"
BASE32 = UPPER + "234567"
URL64 = ALNUM + "-_"
BASE64 = ALNUM + "+/"


@dataclass(frozen=True)
class Secret:
    """One secret and a text that it stands in.

    Parameters
    ----------
    kind : str
        Whose.
    value : str
        What must not be found anywhere.
    text : str
        How somebody writes it: the value alone where its format tells what it is, else with what
        stands around it in an address, a header or a configuration. One line.
    """

    kind: str
    value: str
    text: str


def _draw(random: Random, alphabet: str, size: int) -> str:
    return "".join(random.choices(alphabet, k=size))


def _uuid(random: Random) -> str:
    return "-".join(_draw(random, HEX, size) for size in (8, 4, 4, 4, 12))


def _jwt(random: Random) -> str:
    def part(value: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': _draw(random, DIGITS, 10)})}.{_draw(random, URL64, 43)}"


# The format: literal text, and (alphabet, size) for what is drawn.
Part = str | tuple[str, int]
_FORMATS: dict[str, list[tuple[Part, ...]]] = {
    "anthropic": [("sk-ant-api03-", (URL64, 93), "AA"), ("sk-ant-admin01-", (URL64, 93), "AA")],
    "openai": [("sk-", (ALNUM, 20), "T3BlbkFJ", (ALNUM, 20)), ("sk-proj-", (URL64, 74), "T3BlbkFJ", (URL64, 74))],
    "openrouter": [("sk-or-v1-", (HEX, 64))],
    "huggingface": [("hf_", (string.ascii_letters, 34))],
    "replicate": [("r8_", (ALNUM, 37))],
    "groq": [("gsk_", (ALNUM, 52))],
    "perplexity": [("pplx-", (ALNUM, 48))],
    "xai": [("xai-", (ALNUM, 80))],
    "nvidia": [("nvapi-", (URL64, 64))],
    "langsmith": [("lsv2_pt_", (HEX, 32), "_", (HEX, 10))],
    "langfuse": [("sk-lf-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12))],
    "cerebras": [("csk-", (LOWER + DIGITS, 48))],
    "pinecone": [("pcsk_", (ALNUM, 6), "_", (ALNUM, 63))],
    "github": [("ghp_", (ALNUM, 36)), ("gho_", (ALNUM, 36)), ("ghs_", (ALNUM, 36)), ("github_pat_", (ALNUM, 22), "_", (ALNUM, 59))],
    "gitlab": [("glpat-", (URL64, 20)), ("gldt-", (URL64, 20)), ("glrt-", (URL64, 20)), ("GR1348941", (URL64, 20))],
    "npm": [("npm_", (ALNUM, 36))],
    "pypi": [("pypi-AgEIcHlwaS5vcmc", (URL64, 70))],
    "rubygems": [("rubygems_", (HEX, 48))],
    "docker": [("dckr_pat_", (URL64, 27))],
    "nuget": [("oy2", (LOWER + DIGITS, 43))],
    "postman": [("PMAK-", (HEX, 24), "-", (HEX, 34))],
    "sentry": [("sntryu_", (HEX, 64))],
    "sourcegraph": [("sgp_", (HEX, 16), "_", (HEX, 40))],
    "sonar": [("squ_", (HEX, 40))],
    "aws access key": [("AKIA", (BASE32, 16)), ("ASIA", (BASE32, 16))],
    "gcp": [("AIza", (URL64, 35))],
    "google oauth": [("ya29.", (URL64, 120)), ("GOCSPX-", (URL64, 28))],
    "azure client secret": [((ALNUM, 3), "8Q~", (ALNUM + "_.-", 33), "x")],
    "digitalocean": [("dop_v1_", (HEX, 64)), ("doo_v1_", (HEX, 64))],
    "alibaba": [("LTAI", (ALNUM, 20))],
    "databricks": [("dapi", (HEX, 32))],
    "vault": [("hvs.", (URL64, 95)), ("hvb.", (URL64, 140))],
    "terraform": [((ALNUM, 14), ".atlasv1.", (URL64, 67))],
    "pulumi": [("pul-", (HEX, 40))],
    "doppler": [("dp.pt.", (ALNUM, 43))],
    "planetscale": [("pscale_tkn_", (ALNUM, 43))],
    "heroku": [("HRKU-AA", (URL64, 58))],
    "fly": [("fo1_", (URL64, 43))],
    "openshift": [("sha256~", (URL64, 43))],
    "slack": [("xoxb-", (DIGITS, 12), "-", (DIGITS, 12), "-", (ALNUM, 24)), ("xapp-1-A", (UPPER + DIGITS, 10), "-", (DIGITS, 13), "-", (HEX, 64))],
    "telegram": [((DIGITS, 9), ":AA", (URL64, 33))],
    "stripe": [("sk_live_", (ALNUM, 24)), ("rk_test_", (ALNUM, 24)), ("whsec_", (ALNUM, 32))],
    "square": [("sq0csp-", (URL64, 43)), ("EAAA", (URL64, 60))],
    "facebook": [("EAAC", (ALNUM, 120))],
    "shopify": [("shpat_", (HEX, 32)), ("shpss_", (HEX, 32))],
    "twilio": [("SK", (HEX, 32))],
    "sendgrid": [("SG.", (URL64, 22), ".", (URL64, 43))],
    "mailgun": [("key-", (HEX, 32))],
    "mailchimp": [((HEX, 32), "-us12")],
    "brevo": [("xkeysib-", (HEX, 64), "-", (ALNUM, 16))],
    "newrelic": [("NRAK-", (UPPER + DIGITS, 27))],
    "grafana": [("glsa_", (ALNUM, 32), "_", (HEX, 8)), ("glc_", (BASE64, 60))],
    "dynatrace": [("dt0c01.", (UPPER + DIGITS, 24), ".", (UPPER + DIGITS, 64))],
    "linear": [("lin_api_", (ALNUM, 40))],
    "notion": [("ntn_", (DIGITS, 11), (ALNUM, 35))],
    "atlassian": [("ATATT3", (URL64, 186))],
    "airtable": [("pat", (ALNUM, 14), ".", (HEX, 64))],
    "1password": [("A3-", (UPPER + DIGITS, 6), "-", (UPPER + DIGITS, 11), "-", (UPPER + DIGITS, 5), "-", (UPPER + DIGITS, 5), "-", (UPPER + DIGITS, 5))],
    "age": [("AGE-SECRET-KEY-1", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58))],
    "artifactory": [("AKCp", (ALNUM, 69))],
    "figma": [("figd_", (URL64, 40))],
    "tailscale": [("tskey-auth-", (ALNUM, 12), "-", (ALNUM, 32))],
    "supabase": [("sbp_", (HEX, 40))],
    "buildkite": [("bkua_", (HEX, 40))],
    "hubspot": [("pat-na1-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12))],
    "typeform": [("tfp_", (URL64, 59))],
    "readme": [("rdme_", (LOWER + DIGITS, 70))],
    "prefect": [("pnu_", (ALNUM, 36))],
    "shippo": [("shippo_live_", (HEX, 40))],
    "duffel": [("duffel_live_", (URL64, 43))],
    "easypost": [("EZAK", (ALNUM, 54))],
    "flutterwave": [("FLWSECK_TEST-", (HEX, 32), "-X")],
    "harness": [("pat.", (URL64, 22), ".", (ALNUM, 24), ".", (ALNUM, 20))],
    "infracost": [("ico-", (ALNUM, 32))],
    "maxmind": [((ALNUM, 6), "_", (ALNUM, 29), "_mmk")],
    "octopus": [("API-", (UPPER + DIGITS, 26))],
    "clojars": [("CLOJARS_", (HEX, 60))],
    "adobe": [("p8e-", (LOWER + DIGITS, 32))],
    "dropbox": [("sl.", (URL64, 135))],
    "plaid": [("access-sandbox-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12))],
    "yandex": [("AQVN", (URL64, 36))],
}  # fmt: skip

# (what stands around it, with {} for the secret; its alphabet and size)
_PLACES: dict[str, tuple[str, str, int]] = {
    "aws secret key": ("aws_secret_access_key = {}", BASE64, 40),
    "azure storage key": ("DefaultEndpointsProtocol=https;AccountName=data;AccountKey={};", BASE64, 86),
    "azure sas": ("https://data.blob.example.net/c/f?sv=2024-01-01&sr=b&sig={}", ALNUM, 44),
    "database address": ("postgresql://reader:{}@db.example.org:5432/data", ALNUM, 18),
    "mongodb address": ("mongodb+srv://app:{}@cluster0.example.net/test", ALNUM, 16),
    "bearer header": ("Authorization: Bearer {}", ALNUM, 40),
    "basic header": ("Authorization: Basic {}", ALNUM, 28),
    "curl user": ("curl -s -u deploy:{} https://example.org/api", ALNUM, 20),
    "slack webhook": ("https://hooks.slack.com/services/{}", UPPER + DIGITS, 44),
    "discord webhook": ("https://discord.com/api/webhooks/123456789012345678/{}", URL64, 68),
    "named api key": ('api_key = "{}"', ALNUM, 32),
    "named password": ("db_password: '{}'", ALNUM, 14),
    "shell variable": ("export SERVICE_TOKEN={}", ALNUM, 30),
    "option": ("deploy --token {} --verbose", ALNUM, 30),
    "json field": ('{{"client_secret": "{}"}}', ALNUM, 36),
    "datadog": ("DD_API_KEY={}", HEX, 32),
}

KINDS = sorted([*_FORMATS, *_PLACES, "jwt", "private key"])


def draw(kind: str, random: Random) -> Secret:
    """Return a secret of a kind."""
    if kind in _PLACES:
        around, alphabet, size = _PLACES[kind]
        value = _draw(random, alphabet, size)
        return Secret(kind, value, around.format(value))
    if kind == "jwt":
        value = _jwt(random)
    elif kind == "private key":
        body = _draw(random, BASE64, 400)
        return Secret(kind, body, f"-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----")
    else:
        parts = random.choice(_FORMATS[kind])
        value = "".join(part if isinstance(part, str) else _draw(random, *part) for part in parts)
        while not value[-1].isalnum():  # a word's end is no dash
            value = value[:-1] + random.choice(ALNUM)
    return Secret(kind, value, value)


WRITTEN: dict[str, Callable[[str], str]] = {
    "as an argument": lambda text: f"client = connect({text!r}, retries=3)",
    "under an ordinary name": lambda text: f"x = {text!r}",
    "in a sentence": lambda text: f"Please look why {text} is refused here.",
    "in JSON": lambda text: json.dumps({"a": [1, {"value": text}]}),
    "in an error": lambda text: f"ValueError: 401 for {text}",
}
"""Ways to write a text that holds one, none of which says that it is secret."""
