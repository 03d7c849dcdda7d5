-- When a call that may not be made twice was begun: whoever takes its execution over does not make it again.
ALTER TABLE command_executions ADD COLUMN started_at timestamptz;
