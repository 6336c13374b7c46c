"""Sign in, sign out, and one's own account: password, sessions and API tokens."""

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from requests import RequestException

from cluster import audit, gates, refusals
from cluster.actions import one_time_links, people, tokens
from cluster.actions import sessions as session_actions
from cluster.actions.problems import Rejected
from cluster.forms import FirstPasswordForm, OwnPasswordForm, SignInForm
from cluster.http import OperatorRequest, actor, search_text
from cluster.passwords import strength
from cluster.views.people import token_form


@sensitive_post_parameters("password")
@never_cache
@login_not_required
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    target = request.POST.get("next") or request.GET.get("next") or "/"
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()):
        target = "/"
    form = SignInForm(request, request.POST if request.method == "POST" else None)
    if form.is_valid():
        user = form.get_user()
        record_authentication(request, user, method="password", username=user.get_username())
        done: HttpResponse = perform_login(request, user, email_verification="none", redirect_url=target)
        return done
    # Once the lockout holds, further tries say nothing new, and a log must not be anybody's to fill.
    if form.is_bound and not getattr(request, "axes_locked_out", False):
        tried = search_text(request.POST.get("username"))
        reason = " ".join(str(error) for errors in form.errors.values() for error in errors)
        audit.record("sign-in.refused", tried, by=actor(request), result="refused", reason=reason)
    status = 200 if not form.is_bound else 422
    context = {"form": form, "next": target, "oidc_name": settings.OIDC_URL and settings.OIDC_NAME}
    return render(request, "registration/login.html", context, status=status)


@login_not_required
@require_GET
def provider_begin(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Off to the OpenID provider, or a sentence where it is not there."""
    # Another site must not tie somebody's account here to one of its own there.
    is_ours = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    if request.GET.get("process") == "connect" and not is_ours:
        return redirect("account")
    try:
        away: HttpResponse = openid_connect.login(request, provider_id)
        return away
    except RequestException as problem:
        reason = f"{settings.OIDC_NAME} does not answer. Try again, or use a password."
        refusals.note("sign-in.refused", "", by=actor(request), reason=f"{reason} {problem}")
        messages.error(request, reason)
        return redirect("account" if request.user.is_authenticated else "login")


@never_cache
@require_GET
def go_on(request: OperatorRequest, key: str) -> HttpResponse:
    """The form that somebody had sent when the provider was to ask them again: with one click it goes on."""
    sent = gates.kept(request, key)
    if sent is None:
        messages.error(request, "What you had sent is not kept any more. Nothing was changed; do it again.")
        return redirect("overview")
    return render(request, "account/go_on.html", {"sent": sent})


def form_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that did not come from a page of ours, or from one of a session that is over."""
    refusals.note(
        "form.refused",
        request.path,
        by=actor(request),
        reason=f"{request.method} {request.path}: {reason}",
    )
    return render(request, "403_csrf.html", status=403)


@require_POST
def sign_out(request: OperatorRequest) -> HttpResponse:
    audit.record("sign-out", request.user, by=actor(request))
    auth.logout(request)
    return redirect("login")


@sensitive_post_parameters()
@never_cache
@login_not_required
@require_http_methods(["GET", "POST"])
def one_time_link(request: HttpRequest, token: str) -> HttpResponse:
    """Where somebody who has no password, or no longer, chooses one. Nobody else is asked or told."""
    link = one_time_links.open_link(token)
    if link is None:
        context = {"spent": one_time_links.SPENT}
        return render(request, "registration/one_time_link.html", context, status=404)
    form = FirstPasswordForm(link.user, request.POST or None)
    if form.is_valid():
        password = form.cleaned_data["new_password1"]
        try:
            user = one_time_links.use_link(token, password, by=actor(request))
        except Rejected as rejected:
            context = {"spent": str(rejected)}
            return render(request, "registration/one_time_link.html", context, status=404)
        if request.user.is_authenticated:
            auth.logout(request)
        messages.success(request, f"Your password is set. {strength(password, user)} Now sign in.")
        return redirect("login")
    status = 422 if form.is_bound else 200
    return render(request, "registration/one_time_link.html", {"form": form, "link": link}, status=status)


@require_GET
def sessions(request: OperatorRequest) -> HttpResponse:
    listed = UserSession.objects.purge_and_list(request.user)
    context = {
        "sessions": sorted(listed, key=lambda one: one.last_seen_at, reverse=True),
        "idle_minutes": settings.SESSION_IDLE_S // 60,
        "hours": settings.SESSION_COOKIE_AGE // 3600,
    }
    return render(request, "cluster/sessions.html", context)


@require_POST
def session_end(request: OperatorRequest, pk: int) -> HttpResponse:
    session_actions.end_one(request.user, pk, by=actor(request))
    messages.success(request, "That session has ended.")
    return redirect("sessions")


@require_POST
def sessions_end_others(request: OperatorRequest) -> HttpResponse:
    key = request.session.session_key or ""
    ended = session_actions.end_others(request.user, but=key, by=actor(request))
    messages.success(request, "One other session has ended." if ended == 1 else f"{ended} others have ended.")
    return redirect("sessions")


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account(request: OperatorRequest) -> HttpResponse:
    """One's own password; changing it ends every other session."""
    form = OwnPasswordForm(request.user, request.POST or None)
    if form.is_valid():
        password = form.cleaned_data["new_password1"]
        people.set_own_password(request.user, password, by=actor(request))
        auth.update_session_auth_hash(request, request.user)
        UserSession.objects.create_from_request(request)
        said = f"Your password is changed. {strength(password, request.user)}"
        messages.success(request, f"{said} Other sessions of yours have ended.")
        return redirect("account")
    context = {"form": form, "tokens": request.user.api_tokens.select_related("cluster")}
    if settings.OIDC_URL:
        tied = SocialAccount.objects.filter(user=request.user).exists()
        context |= {"oidc_name": settings.OIDC_NAME, "is_tied": tied}
    return render(request, "cluster/account.html", context)


@require_http_methods(["GET", "POST"])
def token_new(request: OperatorRequest) -> HttpResponse:
    return token_form(request, request.user, back="account")


@require_POST
def token_revoke(request: OperatorRequest, pk: int) -> HttpResponse:
    tokens.revoke_token(request.user, pk, by=actor(request))
    messages.success(request, "The token is revoked.")
    return redirect("account")
