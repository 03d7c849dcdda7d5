-- Several versions of a module may have the same command.
ALTER TABLE commands DROP CONSTRAINT commands_module_name_prefix_command_key;
