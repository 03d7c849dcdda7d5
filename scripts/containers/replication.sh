#!/bin/sh
# Run once by the database's image, in a new database: let the replica stream.
set -eu
echo "host replication waddlebot all scram-sha-256" >> "$PGDATA/pg_hba.conf"
