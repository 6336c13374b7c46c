"""How gunicorn serves the panel. https://docs.gunicorn.org/en/stable/settings.html"""

import os

wsgi_app = "lvsadmin.wsgi"
bind = os.environ.get("LVSADMIN_BIND", "127.0.0.1:8000")
# Pages wait for the database and for Redis, not for the processor: threads suit.
worker_class = "gthread"
workers = int(os.environ.get("LVSADMIN_WORKERS", "2"))
threads = int(os.environ.get("LVSADMIN_THREADS", "8"))
timeout = 60
graceful_timeout = 10
keepalive = 5
# A worker shows that it lives by touching a file; on a busy disk that alone can take too long.
worker_tmp_dir = "/dev/shm"
# Since 25.1 gunicorn opens a control socket in the home folder unless it is told not to.
control_socket_disable = True
# Whose X-Forwarded-* are believed is for the panel alone to say (LVSADMIN_BEHIND_PROXY, LVSADMIN_PROXY_IPS):
# gunicorn would believe everybody on a unix socket, and on 127.0.0.1 also where there is no proxy.
forwarded_allow_ips = ""
secure_scheme_headers = {}
forwarder_headers = ""
# The panel writes a line of its own for what matters.
accesslog = None
errorlog = "-"
loglevel = "warning"
# Two hundred backends to drain in a window, with a reason, in the address of a form.
limit_request_line = 8190
