"""stub, replaced below"""
def guarded(main): main()
