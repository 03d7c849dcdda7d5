"""What this module writes to the audit log; the log itself is waddlebot.base.logs."""

ITEM_ADDED = "item_added"
ITEM_CHECKED_OUT = "item_checked_out"
ITEM_CHECKED_IN = "item_checked_in"
ITEM_DELETED = "item_deleted"
LABEL_ADDED = "label_added"
LABEL_REMOVED = "label_removed"
ITEM_CHANGED = "item_changed"
