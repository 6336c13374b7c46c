"""The provider's addresses; its issuer is http://127.0.0.1:PORT/o."""

from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [
    path("sign-in/", LoginView.as_view(), name="login"),
    path("o/", include("oauth2_provider.urls")),
]
