-- Every page of the portal asks what somebody owns.
CREATE INDEX communities_owner ON communities (owner_id) WHERE owner_id IS NOT NULL;
