"""The panel's pages, and under /beside/ Django's admin with the same columns of the same rows."""

from django.contrib import admin
from django.urls import include, path

from cluster.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("sequence", "at", "actor", "action", "target", "cluster", "result")
    list_per_page = 50


urlpatterns = [path("beside/", admin.site.urls), path("", include("lvsadmin.urls"))]
