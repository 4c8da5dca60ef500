"""The `kv` command: one entry point for data, cluster and benchmark, to which other distributions add sub-commands.

`main` is the entry point, `tree` the lazy command tree, `options` what every command accepts, `connection` the one place where a
client is made, `output` everything printed, `exit_codes` the table from errors to exit codes. `data`, `transfer`, `cluster` and
`bench` hold the commands. Nothing here imports grpc, rich or the client before a command needs it (`kv --help` stays quick).
"""
