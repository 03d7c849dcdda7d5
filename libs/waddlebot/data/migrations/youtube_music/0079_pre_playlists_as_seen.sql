-- Playlists' names are compared as all others are; of two that look the same the later one gets its number.
UPDATE youtube_playlists p SET name = left(p.name, 50) || ' (' || p.id || ')',
    name_key = name_key(left(p.name_key, 50)) || ' (' || p.id || ')'
WHERE EXISTS (SELECT FROM youtube_playlists o WHERE o.community_id = p.community_id AND o.id < p.id
    AND name_key(o.name_key) = name_key(p.name_key));
UPDATE youtube_playlists p SET name_key = name_key(p.name_key) WHERE p.name_key <> name_key(p.name_key);
