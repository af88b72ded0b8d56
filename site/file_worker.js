// A page that is opened from the disk may start no worker, which the search needs. There, and only there, this one takes
// its place: it executes the script in a hidden frame, which has a global scope of its own.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const scope = this.#frame.contentWindow;
      scope.postMessage = (data) => this.#receive(data);
      const script = scope.document.createElement("script");
      script.src = url;
      this.#loaded = new Promise((done) => { script.onload = done; });
      scope.document.body.append(script);
    }

    async postMessage(data) {
      await this.#loaded;
      this.#frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }));
    }

    terminate() {
      this.#frame.remove();
    }

    #receive(data) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
  };
}
