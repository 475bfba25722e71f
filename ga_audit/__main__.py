"""python -m ga_audit."""

from ga_audit.cli import main

if __name__ == "__main__":
    main()
