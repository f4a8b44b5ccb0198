"""Django's own commands, for operators and for the agent: among them `createapplication` of django-oauth-toolkit."""

import sys

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
