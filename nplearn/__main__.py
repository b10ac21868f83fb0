from nplearn.cli import main

main()
