"""A real OpenID provider beside the tests, Django OAuth Toolkit, with database and accounts of its own.

In here is what its administrator and the panel's have agreed on; the rest of it knows nothing of the panel.
"""

CLIENT = "panel"
# Another client of it, whose userinfo says no more than `sub`: Microsoft Entra and AD FS say little there.
TERSE_CLIENT = "panel-terse"
# And one whose userinfo is about somebody else.
TWISTED_CLIENT = "panel-twisted"
SECRET = "s3cret"
BACK = "http://testserver/sign-in/with/oidc/back/"

PASSWORD = "harbour velvet 19"
# Who has an account there, and in which groups.
PEOPLE = {
    "olga": ["lvs-ops", "canteen"],
    "greg": ["canteen"],
    "panel": ["lvs-ops"],
    "uma": ["lvs-ops"],
    "a b <i>": ["lvs-ops"],
}
