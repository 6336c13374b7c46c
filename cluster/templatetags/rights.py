"""What the viewer of a page may do: controls that say why they are disabled, and are never hidden."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context
from django.urls import reverse

from cluster import access
from cluster.models import Cluster
from cluster.permissions import Need

register = template.Library()


@register.simple_tag(takes_context=True)
def may(context: Context, needs: Need, cluster: Cluster | None = None) -> access.Answer:
    """`{% may "edit" cluster as may_edit %}`: true or not, and `may_edit.why`. Costs no query of its own."""
    return access.answer(context["request"].user, needs, cluster)


@register.simple_block_tag
def once(content: str) -> str:
    """`{% once as name %}…{% endonce %}`: drawn here, shown at each `{{ name }}`; for what every row of a
    long table repeats."""
    return content


@register.inclusion_tag("ui/_button.html", takes_context=True)
def button(
    context: Context,
    needs: Need | access.Answer,
    cluster: Cluster | None,
    to: str,
    *args: Any,
    label: str,
    icon: str = "",
    look: str = "btn",
    says: str = "",
    query: str = "",
    post: bool = False,
    send: str = "",
) -> dict[str, Any]:
    """A link, or with `post` a form of one button, to the URL named `to` with its arguments; disabled with
    the reason where the viewer may not. `says`: the longer words of an icon-button. `send`: "name=value" that
    the form sends along."""
    answer = needs if isinstance(needs, access.Answer) else may(context, needs, cluster)
    name, _, value = send.partition("=")
    return {
        "answer": answer,
        "url": reverse(to, args=args) + query if answer else "",
        "label": label,
        "icon": icon,
        "look": look,
        "is_bare": look == "icon-button",
        "says": says or label,
        "post": post,
        "name": name,
        "value": value,
    }
