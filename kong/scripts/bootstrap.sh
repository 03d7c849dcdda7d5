#!/bin/sh
# Bring Kong's schema and kong.yml into its database, before Kong starts: a running one would not notice.
# It may run any number of times. Consumers and keys are made by accounts.py, when Kong runs.
set -eu
rendered=${1:-/rendered/kong.yml}
kong config parse "$rendered"
kong migrations bootstrap
kong migrations up
kong migrations finish
kong config db_import "$rendered"
