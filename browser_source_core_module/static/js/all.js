// OBS tells only the outermost page whether it is seen.

addEventListener("obsSourceVisibleChanged", ({ detail }) => {
  for (const { contentWindow } of document.querySelectorAll("iframe")) {
    contentWindow.dispatchEvent(new contentWindow.CustomEvent("obsSourceVisibleChanged", { detail }));
  }
});
