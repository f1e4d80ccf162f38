# The page and plain HTTP of a model, on a CPU:
#   hoiclip export MODEL --to openvino --out model/
#   docker build -t hoiclip . && docker run -p 7860:7860 -v "$PWD/model:/model:ro" hoiclip
# Without -v it serves the playground's model.
FROM python:3.12-slim
WORKDIR /hoiclip
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[web,openvino]" \
    && useradd --create-home visitor
USER visitor
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["sh", "-c", "exec hoiclip serve --host 0.0.0.0 $([ -n \"$(ls -A /model 2>/dev/null)\" ] && echo --model /model)"]
