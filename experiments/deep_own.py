def with_views(study): raise NotImplementedError
