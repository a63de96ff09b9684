"""How long /ping takes while others upload: python -m service_aiohttp.load [--seconds 10]"""

from service_work import load

if __name__ == "__main__":
    load.main(["-m", "service_aiohttp.app", "--port", "0"])
