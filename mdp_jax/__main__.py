"""`python -m mdp_jax`: the same as the `mdp` command."""

from mdp_jax.cli import main

if __name__ == "__main__":
    main()
