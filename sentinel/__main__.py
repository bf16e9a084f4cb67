"""`python -m sentinel` is `sentinel`."""

from sentinel.cli.sentinel import main

main()
