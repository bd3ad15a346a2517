"""How tokens of known services look, after the formats that the services and public rule sets document.

Sources: the services' own documentation and the rule descriptions of gitleaks and detect-secrets;
the expressions are written anew and are more lenient: a token that was cut short or grew longer
is still a token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# A token does not begin in the middle of a word.
_B = r"(?<![A-Za-z0-9])"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of token.

    Parameters
    ----------
    kind : str
        Goes into ``[redacted:KIND]``.
    keywords : tuple of str
        The pattern is tried only where one of them is in the text: looking for a word is a hundred
        times faster than the expression. In lower case, compared with the text in lower case.
    expression : str
        Its first group is the secret; without a group all of it is.
    flags : re.RegexFlag
        Of the expression.
    one_word : bool
        Whether the keyword is a part of the token, which is one word of 16 characters or more.
    """

    kind: str
    keywords: tuple[str, ...]
    expression: str
    flags: re.RegexFlag
    one_word: bool

    @property
    def begins(self) -> bool:
        """Whether a keyword that begins with a letter or digit is the beginning of its token."""
        return self.one_word and self.expression.startswith(_B)

    @property
    def pattern(self) -> re.Pattern[str]:
        """The expression, compiled when it is first needed: all of them together take 20 ms."""
        return _compiled(self.expression, self.flags)


@cache
def _compiled(expression: str, flags: re.RegexFlag) -> re.Pattern[str]:
    return re.compile(expression, flags)


def _rule(kind: str, keywords: str, expression: str, flags: re.RegexFlag = re.NOFLAG) -> Rule:
    """Return the rule of a token that is one word."""
    return Rule(kind, tuple(keywords.split()), expression, flags, one_word=True)


def _place(kind: str, keywords: str, expression: str, flags: re.RegexFlag = re.NOFLAG) -> Rule:
    """Return the rule of a secret that is known by what stands around it."""
    return Rule(kind, tuple(keywords.split()), expression, flags, one_word=False)


RULES: tuple[Rule, ...] = (
    # First what spans lines or encloses others.
    _place(
        "private-key", "-----begin",
        r"-----BEGIN[ A-Z0-9_-]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:.*?-----END[ A-Z0-9_-]{0,40}PRIVATE KEY(?: BLOCK)?-----|(?:[A-Za-z0-9+/=:,\\\s\"'-]|\\n)*)",
        re.DOTALL,
    ),
    _rule("jwt", "zxlk", _B + r"ZXlK[A-Za-z0-9+/_-]{60,}={0,2}"),
    _rule("jwt", "eyj", _B + r"eyJ[A-Za-z0-9_-]{8,}\.(?:ey|ZX)[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,3}"),
    # Language models and machine learning
    _rule("anthropic-key", "sk-ant-", _B + r"sk-ant-[A-Za-z0-9_-]{16,}"),
    _rule("openrouter-key", "sk-or-", _B + r"sk-or-[A-Za-z0-9_-]{20,}"),
    _rule(
        "openai-key", "sk- sess-",
        _B + r"(?:sk-(?:proj|svcacct|admin|service|None)-[A-Za-z0-9_-]{20,}|(?:sk|sess)-[A-Za-z0-9]{20,})",
    ),
    _rule("huggingface-token", "hf_ api_org_", _B + r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _rule("replicate-token", "r8_", _B + r"r8_[A-Za-z0-9]{30,}"),
    _rule("groq-key", "gsk_", _B + r"gsk_[A-Za-z0-9]{30,}"),
    _rule("perplexity-key", "pplx-", _B + r"pplx-[A-Za-z0-9]{32,}"),
    _rule("xai-key", "xai-", _B + r"xai-[A-Za-z0-9]{40,}"),
    _rule("nvidia-key", "nvapi-", _B + r"nvapi-[A-Za-z0-9_-]{40,}"),
    _rule("langsmith-key", "lsv2_", _B + r"lsv2_(?:pt|sk)_[A-Za-z0-9]{20,}(?:_[A-Za-z0-9]+)?"),
    _rule("pinecone-key", "pcsk_", _B + r"pcsk_[A-Za-z0-9_]{40,}"),
    _rule("wandb-key", "wandb_v1_", _B + r"wandb_v1_[A-Za-z0-9_]{30,}"),
    # Code
    _rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", _B + r"gh[pousr]_[A-Za-z0-9]{30,}"),
    _rule("github-token", "github_pat_", _B + r"github_pat_[A-Za-z0-9_]{40,}"),
    _rule(
        "gitlab-token", "gl gr1348941",
        _B + r"(?:gl(?:pat|dt|ft|soat|rt|cbt|ptt|imt|oas|agent|ffct)-[A-Za-z0-9_.-]{18,}|GR1348941[A-Za-z0-9_-]{18,})",
    ),
    _place("gitlab-token", "_gitlab_session", r"_gitlab_session[\"']?\s{0,3}[=:,]\s{0,3}[\"']?([A-Za-z0-9]{16,})"),
    _rule("npm-token", "npm_", _B + r"npm_[A-Za-z0-9]{30,}"),
    _rule("pypi-token", "pypi-", _B + r"pypi-[A-Za-z0-9_-]{40,}"),
    _rule("rubygems-key", "rubygems_", _B + r"rubygems_[a-f0-9]{40,}"),
    _rule("docker-token", "dckr_", _B + r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    _rule("postman-key", "pmak-", _B + r"PMAK-[A-Fa-f0-9]{24}-[A-Fa-f0-9]{20,}"),
    _rule("sentry-token", "sntrys_ sntryu_", _B + r"sntry[su]_[A-Za-z0-9+/=_-]{40,}"),
    _rule("sourcegraph-token", "sgp_", _B + r"sgp_(?:[A-Fa-f0-9]{16}_|local_)?[A-Fa-f0-9]{40}"),
    # Clouds
    _rule("aws-access-key", "akia asia abia acca a3t", r"(?<![A-Za-z0-9+/])(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _place(
        "aws-secret-key", "aws secret",
        r"(?:aws|secret)[\w \t.-]{0,30}[\"'\]]{0,3}\s{0,3}(?:=|:|,|=>)\s{0,3}[\\\"'`]{0,3}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        re.IGNORECASE,
    ),
    _rule("bedrock-key", "absk bedrock-api-key-", _B + r"(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{60,}={0,2}"),
    _rule("gcp-key", "aiza", _B + r"AIza[A-Za-z0-9_-]{30,}"),
    _rule("google-oauth", "ya29. gocspx- 1//0", _B + r"(?:ya29\.[A-Za-z0-9_-]{30,}|GOCSPX-[A-Za-z0-9_-]{24,}|1//0[A-Za-z0-9_-]{40,})"),
    _rule("azure-client-secret", "q~", r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    _place(
        "azure-storage-key", "accountkey sharedaccesskey",
        r"(?:AccountKey|SharedAccessKey)\s*=\s*([A-Za-z0-9+/]{40,}={0,2})", re.IGNORECASE,
    ),
    _place("azure-sas", "sig=", r"[?&;]sig=([A-Za-z0-9%+/]{30,}(?:=|%3[dD])?)"),
    _rule("digitalocean-token", "_v1_", _B + r"do[opr]_v1_[a-f0-9]{40,}"),
    _rule("alibaba-key", "ltai", _B + r"LTAI[A-Za-z0-9]{16,}"),
    _rule("databricks-token", "dapi", _B + r"dapi[a-f0-9]{32}(?:-\d)?"),
    _rule("vault-token", "hvs. hvb. hvr.", _B + r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    # The tokens of before: 24 letters of both cases and digits, which the names of attributes seldom are.
    _rule("vault-token", "s.", _B + r"(?<!\.)s\.(?=[A-Za-z]{0,23}\d)(?=[a-z0-9]{0,23}[A-Z])(?=[A-Z0-9]{0,23}[a-z])[A-Za-z0-9]{24}(?![A-Za-z0-9_.(])"),
    _rule("terraform-token", ".atlasv1.", _B + r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}"),
    _rule("pulumi-token", "pul-", _B + r"pul-[a-f0-9]{40}"),
    _rule("doppler-token", "dp.", _B + r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    _rule("planetscale-token", "pscale_", _B + r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_=.-]{32,}"),
    _rule("heroku-key", "hrku-", _B + r"HRKU-AA[A-Za-z0-9_-]{50,}"),
    _rule("cloudflare-key", "v1.0-", _B + r"v1\.0-[a-f0-9]{24}-[a-f0-9]{100,}"),
    _rule("fly-token", "fo1_ fm1 fm2_", _B + r"(?:fo1_[A-Za-z0-9_-]{40,}|fm(?:1[ar]|2)_[A-Za-z0-9+/]{60,}={0,3})"),
    _rule("openshift-token", "sha256~", _B + r"sha256~[A-Za-z0-9_-]{40,}"),
    # Services
    _rule("slack-token", "xox xapp-", _B + r"(?:xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{10,})", re.IGNORECASE),
    _place("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{20,})"),
    _place("discord-webhook", "/api/webhooks/", r"/api/webhooks/(\d{17,20}/[A-Za-z0-9_-]{40,})"),
    _rule("telegram-token", ":aa", r"(?<![A-Za-z0-9])\d{8,10}:AA[A-Za-z0-9_-]{32,}"),
    _rule("stripe-key", "sk_ rk_ whsec_", _B + r"(?:(?:sk|rk)_(?:test|live|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,})"),
    _rule("square-token", "eaaa sq0", _B + r"(?:EAAA[A-Za-z0-9_-]{22,}|sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{20,})"),
    _rule("facebook-token", "eaa", _B + r"EAA[MC][A-Za-z0-9]{80,}"),
    _place("facebook-token", "| %7c", r"(?<!\d)(\d{15,16}(?:\||%7[cC])[A-Za-z0-9_-]{27,40})(?![A-Za-z0-9_-])"),
    _rule("twitter-token", "aaaaaaaaaaaaaaaaaaaaa", _B + r"A{21}[A-Za-z0-9%]{59,}"),
    _rule("shopify-token", "shp", _B + r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    _rule("twilio-key", "sk", r"(?<![A-Za-z0-9])SK[0-9a-fA-F]{32}(?![A-Za-z0-9])"),
    _rule("sendgrid-key", "sg.", _B + r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}"),
    _rule("mailgun-key", "key-", _B + r"key-[a-f0-9]{32}(?![A-Za-z0-9])"),
    _rule("mailchimp-key", "-us", r"(?<![A-Za-z0-9])[a-f0-9]{32}-us\d{1,2}(?![A-Za-z0-9])"),
    _rule("brevo-key", "xkeysib-", _B + r"xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    _place(
        "datadog-key", "datadog dd_ dd-",
        r"(?:datadog|dd[_-](?:api|app))[\w \t.-]{0,30}[\"'\]]{0,3}\s{0,3}(?:=|:|,|=>)\s{0,3}[\\\"'`]{0,3}([a-f0-9]{32}(?:[a-f0-9]{8})?)(?![A-Za-z0-9])",
        re.IGNORECASE,
    ),
    _rule("newrelic-key", "nrak- nraa- nrjs- nrii-", _B + r"NR(?:AK|AA|JS|II)-[A-Za-z0-9_-]{19,}"),
    _rule("grafana-token", "glc_ glsa_ eyjrijoi", _B + r"(?:glc_[A-Za-z0-9+/=]{32,}|glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|eyJrIjoi[A-Za-z0-9]{60,}={0,2})"),
    _rule("dynatrace-token", "dt0", _B + r"dt0[a-z]\d\d\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}"),
    _rule("linear-key", "lin_api_ lin_oauth_", _B + r"lin_(?:api|oauth)_[A-Za-z0-9]{40,}"),
    _rule("notion-token", "ntn_ secret_", _B + r"(?:ntn_\d{11}[A-Za-z0-9]{35}|secret_[A-Za-z0-9]{43}(?![A-Za-z0-9]))"),
    _rule("atlassian-token", "atatt3 atctt3", _B + r"AT[AC]TT3[A-Za-z0-9_=-]{60,}"),
    _rule("airtable-token", "pat", _B + r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    _rule("onepassword-key", "a3- ops_eyj", _B + r"(?:A3-[A-Z0-9]{6}-[A-Z0-9]{6}(?:-?[A-Z0-9]{5}){4}|ops_eyJ[A-Za-z0-9+/=]{100,})"),
    _rule("age-key", "age-secret-key-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}", re.IGNORECASE),
    _rule("artifactory-key", "akcp cmvmd", _B + r"(?:AKCp[A-Za-z0-9]{60,}|cmVmd[A-Za-z0-9]{55,})"),
    # More of what gitleaks' list of rules tells by its first letters
    _rule("langfuse-key", "sk-lf- pk-lf-", _B + r"[sp]k-lf-[a-f0-9-]{30,}"),
    _rule("cerebras-key", "csk-", _B + r"csk-[a-z0-9]{40,}"),
    _rule("fireworks-key", "fw_", _B + r"fw_[A-Za-z0-9]{20,}(?![A-Za-z0-9_])"),
    _rule("voyage-key", "pa-", _B + r"pa-[A-Za-z0-9_-]{40,}"),
    _rule("mapbox-token", "pk.eyj sk.eyj", _B + r"[ps]k\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
    _rule("figma-token", "figd_ figo", _B + r"fig(?:d_|oh?_|or_)[A-Za-z0-9_-]{35,}"),
    _rule("tailscale-key", "tskey-", _B + r"tskey-[a-z]+-[A-Za-z0-9-]{16,}"),
    _rule("supabase-key", "sbp_ sb_secret_", _B + r"(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})"),
    _rule("buildkite-token", "bkua_", _B + r"bkua_[a-f0-9]{40}"),
    _rule("circleci-token", "ccipat_", _B + r"CCIPAT_[A-Za-z0-9]{20,}_[a-f0-9]{40}"),
    _rule("hubspot-token", "pat-na1- pat-eu1-", _B + r"pat-(?:na|eu)1-[a-f0-9-]{36}"),
    _rule("sonar-token", "squ_ sqp_ sqa_", _B + r"sq[upa]_[A-Za-z0-9]{40}"),
    _rule("typeform-token", "tfp_", _B + r"tfp_[A-Za-z0-9_.=-]{40,}"),
    _rule("readme-token", "rdme_", _B + r"rdme_[a-z0-9]{60,}"),
    _rule("prefect-token", "pnu_", _B + r"pnu_[A-Za-z0-9]{36}"),
    _rule("settlemint-token", "sm_", _B + r"sm_(?:aat|pat|sat)_[A-Za-z0-9]{16,}"),
    _rule("shippo-token", "shippo_", _B + r"shippo_(?:live|test)_[A-Fa-f0-9]{40}"),
    _rule("duffel-token", "duffel_", _B + r"duffel_(?:test|live)_[A-Za-z0-9_=-]{40,}"),
    _rule("easypost-key", "ezak ezt", _B + r"EZ[AT]K[A-Za-z0-9]{54}"),
    _rule("flutterwave-key", "flwseck", _B + r"FLWSECK(?:_TEST)?-[A-Za-z0-9]{12,}(?:-X)?"),
    _rule("frameio-token", "fio-u-", _B + r"fio-u-[A-Za-z0-9_=-]{60,}"),
    _rule("harness-key", "pat. sat.", _B + r"[ps]at\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}"),
    _rule("infracost-key", "ico-", _B + r"ico-[A-Za-z0-9]{32}"),
    _rule("maxmind-key", "_mmk", _B + r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk"),
    _rule("octopus-key", "api-", _B + r"API-[A-Z0-9]{26}(?![A-Za-z0-9])"),
    _rule("scalingo-token", "tk-us-", _B + r"tk-us-[A-Za-z0-9_-]{48}"),
    _rule("clickhouse-key", "4b1d", _B + r"4b1d[A-Za-z0-9]{38}(?![A-Za-z0-9])"),
    _rule("clojars-token", "clojars_", _B + r"CLOJARS_[a-z0-9]{60}", re.IGNORECASE),
    _rule("defined-token", "dnkey-", _B + r"dnkey-[A-Za-z0-9_=-]{26}-[A-Za-z0-9_=-]{52}"),
    _rule("intra42-secret", "s-s4t2 u-s4t2", _B + r"[us]-s4t2(?:ud|af)-[A-Fa-f0-9]{64}"),
    _rule("authress-key", ".acc", _B + r"(?:sc|ext|scauth|authress)_[A-Za-z0-9]{5,30}\.[A-Za-z0-9]{4,6}\.acc[_-][A-Za-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,}"),
    _rule("lob-key", "live_ test_", _B + r"(?:live|test)_(?:pub_)?[a-f0-9]{31,35}(?![A-Za-z0-9])"),
    _rule("gocardless-token", "live_", _B + r"live_(?=[A-Za-z_=-]{0,39}\d)[A-Za-z0-9_=-]{40}(?![A-Za-z0-9_=-])"),
    _rule("adobe-secret", "p8e-", _B + r"p8e-[A-Za-z0-9]{32}"),
    _rule("nuget-key", "oy2", _B + r"oy2[a-z0-9]{43}(?![A-Za-z0-9])"),
    _rule("dropbox-token", "sl.", _B + r"sl\.(?:u\.)?[A-Za-z0-9_=-]{130,}"),
    _rule("plaid-token", "access-", _B + r"access-(?:sandbox|development|production)-[a-f0-9]{8}-[a-f0-9-]{27}"),
    _rule("yandex-token", "t1. aqvn ycaj", _B + r"(?:t1\.[A-Z0-9a-z_-]+={0,2}\.[A-Z0-9a-z_-]{86}={0,2}|AQVN[A-Za-z0-9_-]{35,38}|YCAJ[A-Za-z0-9_-]{36})"),
    _rule("amazon-mws-key", "amzn.mws.", _B + r"amzn\.mws\.[a-f0-9]{8}-[a-f0-9-]{27}"),
    _rule("teams-webhook", "/incomingwebhook/", r"/IncomingWebhook/[a-z0-9]{32}/[a-f0-9-]{36}"),
    _place("discord-token", "discord client.run bot.run", _B + r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}(?![A-Za-z0-9_-])"),
    # Wherever credentials stand by their place
    _place("url-password", "://", r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\"'<>{}\[\]]{0,80}:([^\s/@\"'<>{}]{3,200})@(?=[A-Za-z0-9\[])"),
    _place(
        "authorization-header", "bearer basic",
        r"\b(?:Bearer|Basic)\s+([A-Za-z0-9_~+/.-]{16,}={0,2})(?![A-Za-z0-9_(])", re.IGNORECASE,
    ),
    _place("authorization-header", "authorization", r"Authorization\\?[\"']?\s*[:,=]\s*\\?[bf]?[\"']?(?:(?:Token|ApiKey|Digest|Bearer|Basic|key)\s+)?([A-Za-z0-9_~+/.=-]{16,})(?![A-Za-z0-9_(])", re.IGNORECASE),
    _place("curl-password", "curl", r"\bcurl\b[^\n]{0,400}?\s(?:-u|--user|--proxy-user)[ =]?\s*[\"']?[^\s:\"']{0,80}:([^\s\"']{3,})"),
    _place("curl-password", "curl", r"\bcurl\b[^\n]{0,400}?\s(?:-u|--user)[ =]?\s*[\"']?([^\s:\"'$]{12,}):(?![^\s\"'])"),
    _place("nuget-password", "cleartextpassword", r"ClearTextPassword\\?[\"']\s+value\s*=\s*\\?[\"']([^\"'\\]{3,})", re.IGNORECASE),
)  # fmt: skip
