"""What the provider says of a person."""

from __future__ import annotations

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator

from tests.panel.openid_provider import TERSE_CLIENT, TWISTED_CLIENT


class Claims(OAuth2Validator):  # type: ignore[misc]  # the toolkit has no types
    """With name and groups, in the ID token and, but to the terse client, at the userinfo address; to the
    twisted one of somebody else."""

    # A claim that no scope brings is said to nobody.
    oidc_claim_scope = OAuth2Validator.oidc_claim_scope | {"groups": "profile"}

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        names = sorted(group.name for group in request.user.groups.all())
        # One group as a text, several as a list: AD FS and SAML bridges do so.
        return {
            "preferred_username": request.user.get_username(),
            "groups": names[0] if len(names) == 1 else names,
        }

    def get_userinfo_claims(self, request: Any) -> dict[str, Any]:
        said: dict[str, Any] = super().get_userinfo_claims(request)
        client = request.access_token.application.client_id
        if client == TERSE_CLIENT:
            return {"sub": said["sub"]}
        return said | {"sub": f"not {said['sub']}"} if client == TWISTED_CLIENT else said
