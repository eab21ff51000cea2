"""What the GitHub Action runs, as two programs with the standard library and `poet_cli.check`.

    run       in the pull request's own job, with a token that can only read: `poet check`
    comment   in a job of the default branch, with a token that can comment: what `run` left behind,
              treated as a stranger's data

Invariant: nothing that a pull request can write reaches a shell, a path or an address.
"""
