"""Sign in, sign out, and one's own account: password and API tokens."""

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from cluster import audit
from cluster.actions import people
from cluster.forms import OwnPasswordForm, SignInForm, TokenForm
from cluster.http import OperatorRequest, actor, search_text


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
    return render(request, "registration/login.html", {"form": form, "next": target}, status=status)


@require_POST
def sign_out(request: OperatorRequest) -> HttpResponse:
    audit.record("sign-out", request.user, by=actor(request))
    auth.logout(request)
    return redirect("login")


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account(request: OperatorRequest) -> HttpResponse:
    """One's own password; changing it ends every other session."""
    form = OwnPasswordForm(request.user, request.POST or None)
    if form.is_valid():
        people.set_own_password(request.user, form.cleaned_data["new_password1"], by=actor(request))
        auth.update_session_auth_hash(request, request.user)
        messages.success(request, "Your password is changed. Other sessions of yours have ended.")
        return redirect("account")
    context = {"form": form, "token_form": TokenForm(), "tokens": request.user.api_tokens.all()}
    return render(request, "cluster/account.html", context)


@require_POST
def token_new(request: OperatorRequest) -> HttpResponse:
    form = TokenForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Give the token a name of at most 64 characters.")
        return redirect("account")
    text = people.create_token(request.user, name=form.cleaned_data["name"], by=actor(request))
    return render(request, "cluster/token_created.html", {"token": text, "name": form.cleaned_data["name"]})


@require_POST
def token_revoke(request: OperatorRequest, pk: int) -> HttpResponse:
    people.revoke_token(request.user, pk, by=actor(request))
    messages.success(request, "The token is revoked.")
    return redirect("account")
