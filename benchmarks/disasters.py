"""`python -m benchmarks.disasters`: the simulation of `benchmarks.reliability.disasters` under a shorter name."""

from benchmarks.reliability.disasters.__main__ import main

if __name__ == "__main__":
    main()
