// Search on pages that are opened from a disk: browsers start no worker from a file, so the worker's script runs in a
// hidden frame that has a worker's functions. Pages that come from a server keep the browser's own Worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      const load = (source) =>
        new Promise((done, failed) => {
          const script = inside.document.createElement("script");
          script.src = new URL(source, location.href).href;
          script.onload = done;
          script.onerror = () => failed(new Error(`cannot load ${script.src}`));
          inside.document.body.append(script);
        });
      inside.postMessage = (data) => this.tell(new MessageEvent("message", { data }));
      inside.importScripts = (...sources) =>
        sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      this.inside = inside;
      this.loaded = load(url);
    }

    tell(event) {
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    postMessage(data) {
      this.loaded.then(() => {
        const event = new MessageEvent("message", { data });
        this.inside.dispatchEvent(event);
        this.inside.onmessage?.(event);
      });
    }

    terminate() {
      this.inside.frameElement?.remove();
    }
  };
}
