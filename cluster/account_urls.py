"""Signing in beyond the password. django-allauth looks its pages up by these names."""

from allauth.socialaccount.providers.openid_connect import views as openid_connect
from django.urls import path

from cluster.views import account, people, second_factor

account_urls = [
    path("sign-in/", account.sign_in, name="account_login"),
    path("sign-in/code/", second_factor.authenticate, name="mfa_authenticate"),
    path("sign-in/key/", second_factor.sign_in_by_key, name="mfa_login_webauthn"),
    path("sign-in/with/<str:provider_id>/", account.provider_begin, name="openid_connect_login"),
    path("sign-in/with/<str:provider_id>/back/", openid_connect.callback, name="openid_connect_callback"),
    path("welcome/<str:token>/", account.one_time_link, name="one-time-link"),
    path("people/<int:pk>/end-sessions/", people.person_end_sessions, name="person-end-sessions"),
    path("account/sessions/", account.sessions, name="sessions"),
    path("account/sessions/end-others/", account.sessions_end_others, name="sessions-end-others"),
    path("account/sessions/<int:pk>/end/", account.session_end, name="session-end"),
    path("confirm/go-on/<slug:key>/", account.go_on, name="go-on"),
    path("confirm/", second_factor.confirm_by_password, name="account_reauthenticate"),
    path("confirm/code/", second_factor.confirm_by_code, name="mfa_reauthenticate"),
    path("confirm/key/", second_factor.confirm_by_key, name="mfa_reauthenticate_webauthn"),
    path("account/second-factor/", second_factor.index, name="mfa_index"),
    path("account/second-factor/", second_factor.index, name="mfa_list_webauthn"),
    path("account/second-factor/app/", second_factor.app_add, name="mfa_activate_totp"),
    path("account/second-factor/app/remove/", second_factor.app_remove, name="mfa_deactivate_totp"),
    path("account/second-factor/keys/new/", second_factor.key_add, name="mfa_add_webauthn"),
    path("account/second-factor/keys/<int:pk>/remove/", second_factor.key_remove, name="mfa_remove_webauthn"),
    path("account/second-factor/codes/", second_factor.codes_view, name="mfa_view_recovery_codes"),
    path("account/second-factor/codes/new/", second_factor.codes_make, name="mfa_generate_recovery_codes"),
]
