"""A double of AList: its logins, its settings and its administration, without the files.

AList is a Go program and no package of a registry. What it does at a login, what it answers and where it is careless is
as its source has it; none of its source is here. With `ALIST_FLAVOUR=openlist` it answers as OpenList does, and
`ALIST_DATABASE` decides what it says about a user name that is taken. Everything is in memory, as its sessions are there
too: one process, and a restart logs everyone out.
"""

from flask import Flask

import administration
import logins
import pages
import sso

application = Flask(__name__)
for part in (logins.routes, sso.routes, administration.routes, pages.routes):
    application.register_blueprint(part)
