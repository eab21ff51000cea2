"""The `poet` command.

main       the group, the error boundary, the exit codes
commands/  one module a command; each imports what is heavy inside its function
options    options that several commands share, and limits as they read them
output     what goes to the terminal: safe text, one line, a table, or JSON
files      documents from and to disk, bounded and whole
loading    MODULE:FUNCTION, the user's own training step
residency  which storages are in RAM at one instruction of a judged plan
chart, report   memory over program order, in the terminal and as an HTML page
"""
