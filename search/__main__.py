from search.cli.main import main

main()
