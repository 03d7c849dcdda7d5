// Pictures, videos and sounds of alerts. What does not load is left out; nobody ever sees a broken picture.

import { isMuted } from "./overlay.js";

/** Put a picture or a video where the icon is, as soon as there is something of it to see. */
export function addPicture(panel, look, ready) {
  const place = panel.querySelector(".picture");
  const media = document.createElement(look.is_video ? "video" : "img");
  const show = () => {
    if (!media.isConnected) return;
    panel.classList.add("pictured");
    place.hidden = false;
    ready();
  };
  place.hidden = true;
  place.replaceChildren(media);
  media.addEventListener(look.is_video ? "loadeddata" : "load", show, { once: true });
  media.addEventListener("error", () => leaveOut(panel, place, media), { once: true });
  if (look.is_video) {
    media.volume = look.volume / 100;
    media.muted = isMuted();
    // A video with a sound of its own is heard only where the browser lets it; in OBS it does.
    media.addEventListener("canplay", () => play(media), { once: true });
  }
  media.src = look.image;
}

export function playSound(look) {
  const sound = new Audio(look.sound);
  sound.volume = look.volume / 100;
  sound.muted = isMuted();
  play(sound);
  return sound;
}

function leaveOut(panel, place, media) {
  if (!media.isConnected) return;
  place.replaceChildren();
  place.hidden = true;
  panel.classList.remove("pictured");
}

/** Play, silently where sound is not allowed; without it where it cannot be played at all. */
async function play(media) {
  try {
    await media.play();
  } catch {
    media.muted = true;
    await media.play().catch(() => {});
  }
}
