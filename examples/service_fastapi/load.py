"""How long /ping takes while others upload: python -m service_fastapi.load [--seconds 10]"""

from service_work import load

if __name__ == "__main__":
    uvicorn = ["-m", "uvicorn", "--port", "0", "--no-access-log"]
    load.main([*uvicorn, "service_fastapi.app:app"])
