"""All settings, read from the environment. docs/operating.md lists the variables."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from lvsadmin import env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.text("LVSADMIN_DATA_DIR", str(BASE_DIR / ".data")))
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
VERSION = "0.1"

DEBUG = env.flag("LVSADMIN_DEBUG")
SECRET_KEY = env.secret("LVSADMIN_SECRET_KEY", generated_at=DATA_DIR / "secret.key")
ALLOWED_HOSTS = env.words("LVSADMIN_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
# Behind a proxy with TLS this stays off. The demo, which has no certificate, turns it on.
PLAIN_HTTP = env.flag("LVSADMIN_PLAIN_HTTP")
# One proxy of ours in front, which sets X-Forwarded-For and X-Forwarded-Proto itself, and where it is.
BEHIND_PROXY = env.flag("LVSADMIN_BEHIND_PROXY")
PROXY_NETWORKS = env.networks("LVSADMIN_PROXY_IPS", "127.0.0.1,::1")

# What signs orders to the directors. docs/operating.md says how to rotate it.
PANEL_KEY_FILE = Path(env.text("LVSADMIN_PANEL_KEY_FILE", str(DATA_DIR / "panel.key")))
# What signs checkpoints of the audit log, and the file to which they go, best on a disk that is not the
# database's; also to syslog where its address is given: /dev/log, or host:port.
AUDIT_KEY_FILE = Path(env.text("LVSADMIN_AUDIT_KEY_FILE", str(DATA_DIR / "audit.key")))
AUDIT_CHECKPOINT_FILE = Path(
    env.text("LVSADMIN_AUDIT_CHECKPOINT_FILE", str(DATA_DIR / "audit-checkpoints.jsonl"))
)
AUDIT_SYSLOG = env.log_server("LVSADMIN_AUDIT_SYSLOG")
# Who gets a mail about the day before; nobody by default.
AUDIT_DIGEST_TO = env.words("LVSADMIN_AUDIT_DIGEST_TO")
EMAIL_HOST, EMAIL_PORT = env.address("LVSADMIN_MAIL_SERVER", "localhost:25")
EMAIL_HOST_USER = env.text("LVSADMIN_MAIL_USER")
EMAIL_HOST_PASSWORD = env.text("LVSADMIN_MAIL_PASSWORD")
EMAIL_USE_TLS = env.flag("LVSADMIN_MAIL_STARTTLS")
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.text("LVSADMIN_MAIL_FROM", "lvsadmin@localhost")
REDIS_URL = env.text("LVSADMIN_REDIS_URL", "redis://127.0.0.1:6379/0")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
    "django_htmx",
    "csp",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "cluster",
]
MIDDLEWARE = [
    "lvsadmin.middleware.request_id",
    "lvsadmin.middleware.forwarded",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "lvsadmin.middleware.no_store",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "lvsadmin.middleware.SessionLimits",
    "lvsadmin.middleware.SignInRequired",
    "cluster.gates.Gates",
    "django.contrib.messages.middleware.MessageMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "lvsadmin.urls"
WSGI_APPLICATION = "lvsadmin.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["cluster.templatetags.ui"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "cluster.shell.shell",
            ],
        },
    }
]
FORM_RENDERER = "cluster.fields.Renderer"

if env.text("LVSADMIN_PG_NAME"):
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": env.text("LVSADMIN_PG_NAME"),
            "USER": env.text("LVSADMIN_PG_USER"),
            "PASSWORD": env.text("LVSADMIN_PG_PASSWORD"),
            "HOST": env.text("LVSADMIN_PG_HOST"),
            "PORT": env.text("LVSADMIN_PG_PORT"),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "panel.sqlite3",
            # Opening it costs as much as eight questions.
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 10,
                # FULL: what the audit log acknowledged must survive a power cut.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
            },
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "cluster.passwords.HardToGuess"},
]
# A file of hashes of passwords that are known from breaches, where the operator keeps one.
BREACHED_PASSWORDS = env.text("LVSADMIN_BREACHED_PASSWORDS")
if BREACHED_PASSWORDS:
    AUTH_PASSWORD_VALIDATORS.append(
        {"NAME": "cluster.breached_passwords.NotBreached", "OPTIONS": {"path": BREACHED_PASSWORDS}}
    )
ONE_TIME_LINK_HOURS = 24
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
# The pair of user and address stops a stranger from locking somebody else out. An address alone may be
# that of a whole office, whose typing errors add up; it is locked where it tries many names.
AXES_HANDLER = "lvsadmin.lockout.Lockout"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 10
ADDRESS_FAILURE_LIMIT = 100
AXES_COOLOFF_TIME = 0.25
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"

# The second factor and the list of sessions are django-allauth's. Nobody signs up, and nothing is mailed.
ACCOUNT_ADAPTER = "cluster.signing_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
# What counts wrong passwords and codes is the lockout above. This is for the codes of one person, from
# wherever they are tried: whoever tries them knows the password already.
ACCOUNT_RATE_LIMITS = {"login_failed": "30/15m/key", "reauthenticate": "30/15m/user", "login": None}
ACCOUNT_FORMS = {"reauthenticate": "cluster.account_forms.PasswordAgainForm"}
# What the secrets of apps and recovery codes are encrypted with in the database.
SECOND_FACTOR_KEY = env.secret("LVSADMIN_SECOND_FACTOR_KEY", generated_at=DATA_DIR / "second-factor.key")
MFA_ADAPTER = "cluster.signing_in.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "LVS Admin"
MFA_TOTP_TOLERANCE = 1  # half a minute early or late; account_forms sees to it that a code counts once
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = PLAIN_HTTP
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}
MFA_FORMS = {
    "authenticate": "cluster.account_forms.CodeForm",
    "authenticate_webauthn": "cluster.account_forms.KeyForm",
    "login_webauthn": "cluster.account_forms.PasskeyForm",
    "reauthenticate": "cluster.account_forms.CodeAgainForm",
    "reauthenticate_webauthn": "cluster.account_forms.KeyAgainForm",
    "activate_totp": "cluster.account_forms.FirstCodeForm",
    "add_webauthn": "cluster.account_forms.NewKeyForm",
}
# Single sign-on, where LVSADMIN_OIDC_URL names an OpenID provider. Its groups let people in: `theirs=ours`.
OIDC_URL = env.text("LVSADMIN_OIDC_URL").rstrip("/")  # many issuers end with one; two in a row are not found
if OIDC_URL and not OIDC_URL.startswith("https://") and not PLAIN_HTTP:
    raise ImproperlyConfigured(
        "LVSADMIN_OIDC_URL must begin with https://: TLS is how the provider is known."
    )
OIDC_NAME = env.text("LVSADMIN_OIDC_NAME", "single sign-on")
OIDC_GROUPS_CLAIM = env.text("LVSADMIN_OIDC_GROUPS_CLAIM", "groups")
OIDC_GROUPS = env.pairs("LVSADMIN_OIDC_GROUPS")
# Whether its sign-in counts as two factors. It is the provider's to ask for them, and many ask for one.
OIDC_IS_SECOND_FACTOR = env.flag("LVSADMIN_OIDC_IS_SECOND_FACTOR", default=False)
OIDC_APP = {
    "provider_id": "oidc",
    "name": OIDC_NAME,
    "client_id": env.text("LVSADMIN_OIDC_CLIENT_ID"),
    "secret": env.text("LVSADMIN_OIDC_CLIENT_SECRET"),
    "settings": {
        "server_url": OIDC_URL,
        "oauth_pkce_enabled": True,
        "scope": env.words("LVSADMIN_OIDC_SCOPES", "openid,profile,email"),
    },
}
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [OIDC_APP] if OIDC_URL else []}}
SOCIALACCOUNT_ADAPTER = "cluster.single_sign_on.SingleSignOnAdapter"
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_LOGIN_ON_GET = True  # a link; form-action of the policy below would stop a form on its way out
SOCIALACCOUNT_REQUESTS_TIMEOUT = 10

# An LDAP directory for passwords, asked after the panel's own.
LDAP_URL = env.text("LVSADMIN_LDAP_URL")
LDAP_NAME = env.text("LVSADMIN_LDAP_NAME", "the LDAP directory")
LDAP_GROUPS = env.pairs("LVSADMIN_LDAP_GROUPS")
if LDAP_URL:
    from lvsadmin import ldap_directory

    AUTHENTICATION_BACKENDS.append("cluster.ldap_sign_in.Directory")
    globals().update(ldap_directory.settings(LDAP_URL))

# Whether whoever may change anything must have one. Off: everybody may.
SECOND_FACTOR_REQUIRED = env.flag("LVSADMIN_SECOND_FACTOR_REQUIRED", default=True)
# Before what cannot be undone: signed in, or asked again, within this.
CONFIRMED_FOR_S = 15 * 60
# The codes that were used, and how often some were tried: seen by every process, with Redis down as well.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

SESSION_COOKIE_AGE = 12 * 3600  # after the sign-in; Django alone would count from the last save
SESSION_IDLE_S = 30 * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = False
if not PLAIN_HTTP:
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = env.flag("LVSADMIN_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    if BEHIND_PROXY:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_FAILURE_VIEW = "cluster.views.account.form_refused"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
# All backends of a large cluster, ticked at once.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Hashed names need `collectstatic`; in development the folder itself is served.
if not DEBUG:
    STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "lvsadmin.logs.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": env.text("LVSADMIN_LOG_LEVEL", "INFO")},
}
if AUDIT_SYSLOG:
    LOGGING["handlers"]["syslog"] = {
        "class": "logging.handlers.SysLogHandler",
        "address": AUDIT_SYSLOG,
        "formatter": "json",
    }
    LOGGING["loggers"] = {"cluster.audit.checkpoints": {"handlers": ["syslog"]}}
