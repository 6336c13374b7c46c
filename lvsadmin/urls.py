"""Root routes."""

from django.urls import include, path

handler500 = "cluster.views.api.server_error"
urlpatterns = [path("", include("cluster.urls"))]
