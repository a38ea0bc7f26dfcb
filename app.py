"""Opens the app (the same as `vkd app`): python app.py --help lists the options."""

from vkd.ui.app import main

if __name__ == "__main__":
    main()
