from winnow.search.cli.main import main

main()
