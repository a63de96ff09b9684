"""Settings; tests override some."""

SECRET_KEY = "of no use to anybody"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django_shop"]
MIDDLEWARE = ["loopworkers_django.WorkersMiddleware"]
ROOT_URLCONF = "django_shop.urls"
LOGGING_CONFIG = None  # the test's own handlers stay
TIME_ZONE = None  # else the whole test process would have it
LOOPWORKERS = {"max_workers": 1, "measure_loop": False, "load_apps": False}
GATE = ""
DATA_UPLOAD_MAX_MEMORY_SIZE = None
